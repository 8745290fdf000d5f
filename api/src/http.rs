//! The parts of HTTP responses: JSON bodies, problems (RFC 9457), entity tags and trace ids.
//!
//! Nothing here knows the state of the server, a route or a resource.

mod cut;
pub(crate) mod documented;
pub(crate) mod documented_enum;
mod etag;
mod problem;
mod problem_body;
mod problem_causes;
mod problem_code;
mod response;
mod trace_id;

pub(crate) use cut::{MAX_ERRORS, cut};
#[cfg(test)]
pub(crate) use etag::etag;
pub(crate) use etag::{body_etag, names};
pub(crate) use problem::Problem;
pub(crate) use problem_body::{FieldError, ProblemBody};
pub(crate) use problem_causes::invalid;
pub(crate) use problem_code::ProblemCode;
pub(crate) use response::{JsonResponse, not_modified};
pub(crate) use trace_id::TraceId;
