//! GET `/health/ready`.

use axum::{extract::State, response::Response};

use super::response::{down, example, report};
use crate::{
    health::body::{Health, HealthState},
    http::documented::problems,
    state::ApiState,
};

problems!(Problems: &[]);

/// Check readiness
///
/// A process is ready while it serves something: a connection to the database answers. Accepted work is durable, and
/// waits while workers or the mail server are unavailable. While the database is read-only, or takes no more connections,
/// the process is ready and `degraded`. Not ready is a 503 with the state of each part instead of a problem document. A
/// process that is shutting down is `draining`: it still serves requests, but callers should send new ones elsewhere.
#[utoipa::path(
    get,
    path = "/health/ready",
    tag = "operations",
    responses(
        (status = 200, description = "The process is ready", body = Health, example = json!(example())),
        (
            status = 503,
            description = "The database does not answer, or the process is shutting down",
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
