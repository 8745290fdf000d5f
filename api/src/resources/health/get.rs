//! GET `/health`.

use axum::{extract::State, response::Response};

use super::response::{down, example, report};
use crate::{health::body::Health, http::documented::problems, state::ApiState};

problems!(Problems: &[]);

/// Read health
///
/// The state of the database, the queues, mail and the circuit breakers, as of the last second. `degraded` means that
/// the process serves, but something is late or unavailable.
#[utoipa::path(
    get,
    path = "/health",
    tag = "operations",
    responses(
        (status = 200, description = "The process serves", body = Health, example = json!(example())),
        (status = 503, description = "The database does not answer", body = Health, example = json!(down())),
        Problems
    )
)]
pub(crate) async fn get_health(State(state): State<ApiState>) -> Response {
    report(&state.health_cache().health().await)
}
