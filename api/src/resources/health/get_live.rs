//! GET `/health/live`.

use axum::response::Response;
use http::StatusCode;

use super::response::respond;
use crate::{
    health::body::{HealthState, Liveness},
    http::documented::problems,
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
