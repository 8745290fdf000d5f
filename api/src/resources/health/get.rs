//! GET `/health`.

use axum::{extract::State, response::Response};

use super::response::{down, example, report};
use crate::{health::body::Health, http::documented::problems, state::ApiState};

problems!(Problems: &[]);

/// How is everything?
///
/// Database, queue, mail and circuit breakers, each with its state, as they were within the last second. `degraded` means
/// that it serves, but something is late or away.
#[utoipa::path(
    get,
    path = "/health",
    tag = "operations",
    responses(
        (status = 200, description = "It serves", body = Health, example = json!(example())),
        (status = 503, description = "The database does not answer", body = Health, example = json!(down())),
        Problems
    )
)]
pub(crate) async fn get_health(State(state): State<ApiState>) -> Response {
    report(&state.health_cache().health().await)
}
