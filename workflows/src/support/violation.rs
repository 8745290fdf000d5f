//! Violations: what is wrong with a request, and where. Input is checked once, at the edge, and trusted afterwards.

use engine::Failure;
use serde::{Deserialize, Serialize};

/// One violation of the rules for a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// The place: a JSON pointer (RFC 6901) into the request's body, such as `/items/0/quantity`.
    pub pointer: String,
    /// A stable code in kebab-case, such as `out-of-range`.
    pub code: String,
    /// The rule, in one sentence for people.
    pub message: String,
}

impl Violation {
    pub(crate) fn new(pointer: impl Into<String>, code: &str, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), code: code.into(), message: message.into() }
    }
}

/// Reads the violations that a saga's entry step put into the details of its refusal.
pub(crate) fn of_refusal(failure: Failure) -> Vec<Violation> {
    let listed = failure.details.get("errors").cloned().map(serde_json::from_value);
    match listed {
        Some(Ok(violations)) => violations,
        Some(Err(_)) | None => vec![Violation::new("", &failure.code, failure.message)],
    }
}
