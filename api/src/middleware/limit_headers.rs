//! Refuses requests whose headers are too many or too large.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{
    http::{Problem, ProblemCode},
    state::ApiState,
};

/// Refuses requests with too many or too large headers (431).
pub(crate) async fn limit_headers(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    let (count, bytes) = (request.headers().len(), size(&request));
    let limits = state.limits();
    if count > limits.headers || bytes > limits.header_bytes {
        let detail = format!("at most {} headers with {} bytes in all", limits.headers, limits.header_bytes);
        return Problem::new(ProblemCode::HeadersTooLarge, detail).into_response();
    }
    next.run(request).await
}

fn size(request: &Request) -> usize {
    let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len());
    fields.sum::<usize>() + request.uri().path_and_query().map_or(0, |path| path.as_str().len())
}
