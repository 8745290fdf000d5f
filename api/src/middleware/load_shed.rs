//! Sheds load: refuses requests that the process could not handle, before any work is done for them.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::Method;
use hyper::body::Body as _;

use super::held_body::HeldBody;
use crate::{
    http::{Problem, ProblemCode},
    state::ApiState,
};

/// A body up to this size may be in the connection's own buffer as a whole, and is not counted.
const SMALL_BYTES: u64 = 64 * 1024;

/// Refuses requests (503) when too many are running already, or while the connection pool is exhausted. A request runs
/// until its response is sent; a stream of events has a slot of its own instead.
pub(crate) async fn load_shed(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    let Ok(permit) = state.in_flight().clone().try_acquire_owned() else {
        return Problem::example(ProblemCode::Overloaded).into_response();
    };
    if let Err(problem) = state.gate().pass().await {
        return problem.into_response();
    }
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let response = next.run(request).await;
    let Some(size) = response.body().size_hint().exact().filter(|size| *size > 0) else { return response };
    let mut bytes = state.response_bytes().hold();
    // The caller of a change must learn of it, so only reads are refused.
    if is_read
        && size > SMALL_BYTES
        && let Err(problem) = bytes.add(usize::try_from(size).unwrap_or(usize::MAX))
    {
        return problem.into_response();
    }
    response.map(|body| HeldBody::wrap(body, (permit, bytes)))
}
