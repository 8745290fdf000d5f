//! The JSON of a problem (RFC 9457).

use serde::{Deserialize, Serialize};
use utoipa::{ToSchema, openapi::Ref};

use super::{cut::cut, problem_code::ProblemCode};

/// A problem (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody {
    /// `urn:sagaline:problem:` and the code.
    #[serde(rename = "type")]
    #[schema(example = "urn:sagaline:problem:invalid-body", pattern = "^urn:sagaline:problem:[a-z-]+$")]
    pub(crate) kind: String,
    /// One short sentence, the same for every problem of this code.
    #[schema(example = "A field of the body is wrong")]
    pub(crate) title: &'static str,
    /// The HTTP status.
    #[schema(example = 422)]
    pub(crate) status: u16,
    pub(crate) code: ProblemCode,
    /// What happened in this case.
    pub(crate) detail: String,
    /// The path of the request.
    #[schema(example = "/api/orders")]
    pub(crate) instance: String,
    /// The id that finds the request in traces and logs.
    #[schema(example = "4bf92f3577b34da6a3ce929d0e0e4736", pattern = "^[0-9a-f]{32}$")]
    pub(crate) trace_id: String,
    /// Every field that is wrong, up to 100.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub(crate) errors: Vec<FieldError>,
    /// With the code `events-gone`: the event after which the log continues, for `after` and `Last-Event-ID`, once you have
    /// read your state again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 0, example = 1041)]
    pub(crate) continue_after: Option<i64>,
    /// With the code `plan-changed`: the plan as it is now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = plan_schema, required = false)]
    pub(crate) plan: Option<serde_json::Value>,
}

fn plan_schema() -> Ref {
    Ref::from_schema_name("BulkPlan")
}

/// One thing that is wrong with the request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct FieldError {
    /// The place in the body, as a JSON pointer (RFC 6901).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(nullable = false, example = "/items/0/quantity")]
    pub(crate) pointer: Option<String>,
    /// The parameter of the path or the query.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(nullable = false)]
    pub(crate) parameter: Option<String>,
    /// The header.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(nullable = false)]
    pub(crate) header: Option<String>,
    /// What is wrong, for programs: a stable code in kebab-case, such as `out-of-range` or `missing-field`. Each definition
    /// of a workflow can have more of its own.
    #[schema(example = "invalid", pattern = "^[a-z0-9]+(-[a-z0-9]+)*$")]
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
