//! Turns away what the process could not carry, before anything was done for it.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{
    problem::{Problem, ProblemCode},
    state::ApiState,
};

/// Refuses too many or too large headers.
pub(crate) async fn limit_headers(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    let (count, bytes) = (request.headers().len(), size(&request));
    let limits = state.limits();
    if count > limits.headers || bytes > limits.header_bytes {
        let detail = format!("at most {} headers with {} bytes in all", limits.headers, limits.header_bytes);
        return Problem::new(ProblemCode::HeadersTooLarge, detail).into_response();
    }
    next.run(request).await
}

/// Refuses requests that need the database when there are too many already, or while the pool is exhausted.
pub(crate) async fn load_shed(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    let Ok(_permit) = state.in_flight().clone().try_acquire_owned() else {
        return Problem::new(ProblemCode::Overloaded, ProblemCode::Overloaded.example()).into_response();
    };
    if let Err(problem) = state.gate().pass().await {
        return problem.into_response();
    }
    next.run(request).await
}

fn size(request: &Request) -> usize {
    let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len());
    fields.sum::<usize>() + request.uri().path_and_query().map_or(0, |path| path.as_str().len())
}
