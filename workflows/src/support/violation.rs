//! What is wrong with a request, and where: input is checked once, at the edge, and trusted from there on.

use engine::Failure;
use serde::{Deserialize, Serialize};

/// One thing that is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Where it is wrong: a JSON pointer (RFC 6901) into the request's body, such as `/items/0/quantity`.
    pub pointer: String,
    /// Kebab-case, and the same over releases, such as `out-of-range`.
    pub code: String,
    /// One sentence for people.
    pub message: String,
}

impl Violation {
    pub(crate) fn new(pointer: impl Into<String>, code: &str, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), code: code.into(), message: message.into() }
    }
}

/// What a saga's entry step found wrong with its input: it lists that in the details of its refusal.
pub(crate) fn of_refusal(failure: Failure) -> Vec<Violation> {
    let listed = failure.details.get("errors").cloned().map(serde_json::from_value);
    match listed {
        Some(Ok(violations)) => violations,
        Some(Err(_)) | None => vec![Violation::new("", &failure.code, failure.message)],
    }
}
