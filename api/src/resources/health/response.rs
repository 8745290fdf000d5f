//! The responses to health checks.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    health::body::{Health, HealthState},
    http::JsonResponse,
};

/// Answers with the state of everything: 200 when it serves, else 503.
pub(super) fn report(health: &Health) -> Response {
    let status = match health.status {
        HealthState::Up | HealthState::Degraded => StatusCode::OK,
        HealthState::Draining | HealthState::Down | HealthState::Unknown => StatusCode::SERVICE_UNAVAILABLE,
    };
    respond(status, health)
}

/// Answers with JSON that no cache keeps.
pub(super) fn respond(status: StatusCode, body: &impl serde::Serialize) -> Response {
    let mut response = match JsonResponse::new(status, body) {
        Ok(answer) => answer.into_response(),
        Err(problem) => problem.into_response(),
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The example of a process that serves.
pub(super) fn example() -> Value {
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

/// The example of a process without its database.
pub(super) fn down() -> Value {
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
