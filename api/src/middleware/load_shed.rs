//! Turns away what the process could not carry, before anything was done for it.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{
    http::{Problem, ProblemCode},
    state::ApiState,
};

/// Refuses requests that need the database when there are too many already, or while the pool is exhausted.
pub(crate) async fn load_shed(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    let Ok(_permit) = state.in_flight().clone().try_acquire_owned() else {
        return Problem::example(ProblemCode::Overloaded).into_response();
    };
    if let Err(problem) = state.gate().pass().await {
        return problem.into_response();
    }
    next.run(request).await
}
