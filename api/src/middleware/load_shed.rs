//! Sheds load: refuses requests that the process could not handle, before any work is done for them.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{
    http::{Problem, ProblemCode},
    state::ApiState,
};

/// Refuses requests (503) when too many are running already, or while the connection pool is exhausted.
pub(crate) async fn load_shed(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    let Ok(_permit) = state.in_flight().clone().try_acquire_owned() else {
        return Problem::example(ProblemCode::Overloaded).into_response();
    };
    if let Err(problem) = state.gate().pass().await {
        return problem.into_response();
    }
    next.run(request).await
}
