//! GET `/health/live`.

use axum::response::Response;
use http::StatusCode;

use super::response::respond;
use crate::{
    health::body::{HealthState, Liveness},
    http::documented::problems,
};

problems!(Problems: &[]);

/// Check liveness
///
/// Uses nothing outside the process: if it does not answer, restart the process.
#[utoipa::path(
    get,
    path = "/health/live",
    tag = "operations",
    responses(
        (status = 200, description = "The process is alive", body = Liveness, example = json!({"status": "up"})),
        Problems
    )
)]
pub(crate) async fn get_health_live() -> Response {
    respond(StatusCode::OK, &Liveness { status: HealthState::Up })
}
