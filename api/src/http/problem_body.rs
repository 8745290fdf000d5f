//! The JSON of a problem (RFC 9457).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::cut::cut;

/// A problem (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody {
    /// `urn:sagaline:problem:` and the code.
    #[serde(rename = "type")]
    #[schema(example = "urn:sagaline:problem:invalid-body")]
    pub(crate) kind: String,
    /// One short sentence, the same for every problem of this code.
    #[schema(example = "A field of the body is wrong")]
    pub(crate) title: &'static str,
    /// The HTTP status.
    #[schema(example = 422)]
    pub(crate) status: u16,
    /// The stable code, for programs.
    #[schema(example = "invalid-body")]
    pub(crate) code: &'static str,
    /// What happened in this case.
    pub(crate) detail: String,
    /// The path of the request.
    #[schema(example = "/api/orders")]
    pub(crate) instance: String,
    /// The id that finds the request in traces and logs.
    #[schema(example = "4bf92f3577b34da6a3ce929d0e0e4736")]
    pub(crate) trace_id: String,
    /// Every field that is wrong, up to 100.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub(crate) errors: Vec<FieldError>,
}

/// One thing that is wrong with the request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct FieldError {
    /// The place in the body, as a JSON pointer (RFC 6901).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(example = "/items/0/quantity")]
    pub(crate) pointer: Option<String>,
    /// The parameter of the path or the query.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) parameter: Option<String>,
    /// The header.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) header: Option<String>,
    /// What is wrong, for programs.
    #[schema(example = "invalid")]
    pub(crate) code: String,
    /// What is wrong, for people.
    pub(crate) message: String,
}

impl FieldError {
    /// A wrong place in the body.
    pub(crate) fn at(
        pointer: impl Into<String>,
        code: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { pointer: Some(cut(pointer.into())), ..Self::new(code, message) }
    }

    /// A wrong parameter of the path or the query.
    pub(crate) fn parameter(
        name: impl Into<String>,
        code: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { parameter: Some(cut(name.into())), ..Self::new(code, message) }
    }

    /// A wrong header.
    pub(crate) fn header(
        name: impl Into<String>,
        code: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { header: Some(cut(name.into())), ..Self::new(code, message) }
    }

    fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: cut(message.into()), ..Self::default() }
    }
}
