//! GET `/health/ready`.

use axum::{extract::State, response::Response};

use super::response::{down, example, report};
use crate::{
    health::body::{Health, HealthState},
    http::documented::problems,
    state::ApiState,
};

problems!(Problems: &[]);

/// Can it serve?
///
/// It can as long as the database answers: accepted work is durable, and waits while workers or mail are away. Not
/// ready is a 503 with the state of each part, not a problem document. A process that was told to stop is `draining`: it
/// still serves what comes, but nothing new should be sent to it.
#[utoipa::path(
    get,
    path = "/health/ready",
    tag = "operations",
    responses(
        (status = 200, description = "It can", body = Health, example = json!(example())),
        (
            status = 503,
            description = "The database does not answer, or the process is about to stop",
            body = Health,
            example = json!(down())
        ),
        Problems
    )
)]
pub(crate) async fn get_health_ready(State(state): State<ApiState>) -> Response {
    let mut health = state.health_cache().health().await;
    if state.shutdown().is_draining() {
        health.status = HealthState::Draining;
    }
    report(&health)
}
