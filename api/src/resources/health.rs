//! GET `/health/live`, `/health/ready`, `/health`: they answer also when the database does not, and soon.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::health::body::{Health, HealthState, Liveness};
use crate::{
    http::{JsonResponse, documented::problems},
    state::ApiState,
};

problems!(Problems: &[]);

/// Is the process alive?
///
/// Touches nothing outside the process: when this does not answer, restart it.
#[utoipa::path(
    get,
    path = "/health/live",
    tag = "operations",
    responses(
        (status = 200, description = "It is", body = Liveness, example = json!({"status": "up"})),
        Problems
    )
)]
pub(crate) async fn get_health_live() -> Response {
    respond(StatusCode::OK, &Liveness { status: HealthState::Up })
}

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

fn report(health: &Health) -> Response {
    let status = match health.status {
        HealthState::Up | HealthState::Degraded => StatusCode::OK,
        HealthState::Draining | HealthState::Down | HealthState::Unknown => StatusCode::SERVICE_UNAVAILABLE,
    };
    respond(status, health)
}

fn respond(status: StatusCode, body: &impl serde::Serialize) -> Response {
    let mut response = match JsonResponse::new(status, body) {
        Ok(answer) => answer.into_response(),
        Err(problem) => problem.into_response(),
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn example() -> Value {
    json!({
        "status": "up",
        "parts": {
            "database": {"state": "up", "detail": null, "latency_ms": 1, "connections": {"idle": 8, "used": 2, "limit": 20}},
            "queue": {"state": "up", "detail": null, "due": 0, "waiting": 3, "leased": 1, "oldest_due_ms": 0},
            "mail": {"state": "up", "detail": null},
            "breakers": {"state": "up", "detail": null, "not_closed": []}
        }
    })
}

fn down() -> Value {
    json!({
        "status": "down",
        "parts": {
            "database": {
                "state": "down", "detail": "no answer within 1 s", "latency_ms": null,
                "connections": {"idle": 0, "used": 0, "limit": 20}
            },
            "queue": {
                "state": "unknown", "detail": "the database does not answer", "due": null, "waiting": null,
                "leased": null, "oldest_due_ms": null
            },
            "mail": {"state": "up", "detail": null},
            "breakers": {"state": "unknown", "detail": "they could not be read", "not_closed": []}
        }
    })
}
