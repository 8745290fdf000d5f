//! Problems: every response to a request that failed, as `application/problem+json` (RFC 9457).
//!
//! A handler returns a [`Problem`]. It travels as an extension of an empty response to the outermost layer, which alone
//! knows the trace id and writes the JSON, so that no problem can lack its trace id.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, header};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    cut::{MAX_ERRORS, cut},
    problem_body::{FieldError, ProblemBody},
    problem_code::{ProblemCode, REPLAYABLE},
};

/// What went wrong with a request, on its way to the caller.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(super) code: ProblemCode,
    pub(super) detail: String,
    pub(super) errors: Vec<FieldError>,
    /// The event after which the log continues.
    pub(super) continue_after: Option<i64>,
    /// The plan of a bulk action as it is now.
    pub(super) plan: Option<Box<serde_json::Value>>,
    /// Logged, and hidden from the caller.
    pub(super) cause: Option<String>,
}

/// The stored form of a problem, for an `Idempotency-Key`: everything but the trace id of the first request.
#[derive(Debug, Serialize, Deserialize)]
struct StoredProblem {
    code: String,
    detail: String,
    errors: Vec<FieldError>,
}

impl Problem {
    /// A problem with a sentence about this occurrence.
    pub(crate) fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: cut(detail.into()),
            errors: Vec::new(),
            continue_after: None,
            plan: None,
            cause: None,
        }
    }

    /// A problem whose detail is the example of its code, because there is nothing more to say.
    pub(crate) fn example(code: ProblemCode) -> Self {
        Self::new(code, code.example())
    }

    /// A problem that lists the wrong fields, the first [`MAX_ERRORS`] of them.
    pub(crate) fn fields(code: ProblemCode, mut errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [one] => one.message.clone(),
            many if many.len() > MAX_ERRORS => {
                format!("more than {MAX_ERRORS} things are wrong; see the first ones in `errors`")
            }
            many => format!("{} things are wrong; see `errors`", many.len()),
        };
        errors.truncate(MAX_ERRORS);
        Self { errors, ..Self::new(code, detail) }
    }

    /// One wrong field of the body.
    pub(crate) fn field(
        pointer: impl Into<String>,
        code: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self::fields(ProblemCode::InvalidBody, vec![FieldError::at(pointer, code, message)])
    }

    /// One wrong header.
    pub(crate) fn header(name: &'static str, message: impl Into<String>) -> Self {
        Self::fields(ProblemCode::InvalidHeader, vec![FieldError::header(name, "invalid", message)])
    }

    /// One wrong parameter of the path or the query.
    pub(crate) fn parameter(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self::fields(ProblemCode::InvalidParameter, vec![FieldError::parameter(name, "invalid", message)])
    }

    /// A resource that does not exist.
    pub(crate) fn not_found(noun: &str, id: impl std::fmt::Display) -> Self {
        Self::new(ProblemCode::NotFound, format!("there is no {noun} {id}"))
    }

    /// A workflow that does not exist, or not any more: after its end it is kept for a time from `kept.0` to `kept.1`;
    /// `None` for ever.
    pub(crate) fn missing_workflow(id: Uuid, kept: Option<(Duration, Duration)>) -> Self {
        let Some((shortest, longest)) = kept else { return Self::not_found("workflow", id) };
        let days = |time: Duration| time.as_secs().div_ceil(24 * 60 * 60);
        let after = match (days(shortest), days(longest)) {
            (1, 1) => "a day".to_owned(),
            (from, to) if from == to => format!("{to} days"),
            (from, to) => format!("{from} to {to} days"),
        };
        let detail = format!("there is no workflow {id}; one that has ended is deleted after {after}");
        Self::new(ProblemCode::NotFound, detail)
    }

    /// Events that are not kept, or are none; the log continues after `continue_after`.
    pub(crate) fn events_gone(detail: impl Into<String>, continue_after: i64) -> Self {
        Self { continue_after: Some(continue_after), ..Self::new(ProblemCode::EventsGone, detail) }
    }

    /// A plan that would do something else now, and the new plan.
    pub(crate) fn plan_changed(plan: serde_json::Value) -> Self {
        Self { plan: Some(Box::new(plan)), ..Self::example(ProblemCode::PlanChanged) }
    }

    /// A failure on our side; the cause is logged and hidden from the caller.
    pub(crate) fn internal(cause: impl Into<String>) -> Self {
        Self { cause: Some(cause.into()), ..Self::example(ProblemCode::Internal) }
    }

    /// A database that can't be used now; the cause is logged and hidden from the caller.
    pub(crate) fn unavailable(cause: impl Into<String>) -> Self {
        Self { cause: Some(cause.into()), ..Self::example(ProblemCode::Unavailable) }
    }

    /// Returns the wrong fields; the whole body where the problem names none.
    pub(crate) fn into_errors(self) -> Vec<FieldError> {
        if self.errors.is_empty() {
            vec![FieldError::at("", self.code.name(), self.detail)]
        } else {
            self.errors
        }
    }

    /// The cause, for the log.
    pub(crate) fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    /// The code.
    pub(crate) fn code(&self) -> ProblemCode {
        self.code
    }

    /// Writes the problem as it is stored for a replay; `None` for failures of the server, which the next request may
    /// not meet.
    pub(crate) fn to_stored(&self) -> Option<serde_json::Value> {
        if self.code.status().is_server_error() {
            return None;
        }
        let stored = StoredProblem {
            code: self.code.name().into(),
            detail: self.detail.clone(),
            errors: self.errors.clone(),
        };
        serde_json::to_value(stored).ok()
    }

    /// Reads what [`Problem::to_stored`] wrote.
    pub(crate) fn from_stored(stored: serde_json::Value) -> Option<Self> {
        let stored: StoredProblem = serde_json::from_value(stored).ok()?;
        let code = REPLAYABLE.into_iter().find(|code| code.name() == stored.code)?;
        Some(Self { errors: stored.errors, ..Self::new(code, stored.detail) })
    }

    /// Returns the JSON.
    pub(crate) fn to_body(&self, instance: &str, trace_id: &str) -> ProblemBody {
        ProblemBody {
            kind: format!("urn:sagaline:problem:{}", self.code.name()),
            title: self.code.title(),
            status: self.code.status().as_u16(),
            code: self.code,
            detail: self.detail.clone(),
            instance: cut(instance.into()),
            trace_id: trace_id.into(),
            errors: self.errors.clone(),
            continue_after: self.continue_after,
            plan: self.plan.as_deref().cloned(),
        }
    }

    /// Renders the response; `headers` (such as `Allow`) are kept.
    pub(crate) fn render(&self, instance: &str, trace_id: &str, mut headers: HeaderMap) -> Response {
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.code.retry_after_s() {
            // The layer that refused may have set a better estimate.
            headers.entry(header::RETRY_AFTER).or_insert(HeaderValue::from(seconds));
        }
        if let Some((name, value)) = self.code.acceptable() {
            headers.insert(name, HeaderValue::from_static(value));
        }
        // A struct of strings and numbers can't fail to be written.
        let json = serde_json::to_vec(&self.to_body(instance, trace_id)).unwrap_or_default();
        (self.code.status(), headers, json).into_response()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.code.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_has_its_code_status_pointers_and_trace_id() {
        let problem = Problem::field("/items/0/quantity", "too-small", "at least 1");
        let json = serde_json::to_value(problem.to_body("/api/orders", "abc")).expect("plain data");
        assert_eq!(
            json,
            serde_json::json!({
                "type": "urn:sagaline:problem:invalid-body",
                "title": "A field of the body is wrong",
                "status": 422,
                "code": "invalid-body",
                "detail": "at least 1",
                "instance": "/api/orders",
                "trace_id": "abc",
                "errors": [{"pointer": "/items/0/quantity", "code": "too-small", "message": "at least 1"}]
            })
        );
    }

    #[test]
    fn a_missing_workflow_may_have_been_deleted() {
        let days = |days: u64| Duration::from_hours(24 * days);
        let detail = |kept| Problem::missing_workflow(Uuid::nil(), kept).detail;
        let missing = "there is no workflow 00000000-0000-0000-0000-000000000000";
        assert_eq!(detail(None), missing);
        for (kept, after) in [((30, 30), "30 days"), ((7, 180), "7 to 180 days"), ((1, 1), "a day")] {
            let expected = format!("{missing}; one that has ended is deleted after {after}");
            assert_eq!(detail(Some((days(kept.0), days(kept.1)))), expected);
        }
    }

    #[test]
    fn a_stored_problem_is_read_back() {
        let problem = Problem::field("/sku", "too-long", "at most 64 characters");
        let back = Problem::from_stored(problem.to_stored().expect("final")).expect("readable");
        assert_eq!(back.code(), problem.code());
        assert_eq!(back.errors, problem.errors);
        assert!(Problem::internal("x").to_stored().is_none());
    }
}
