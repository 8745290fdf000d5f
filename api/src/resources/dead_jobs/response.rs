//! The response to an action on one dead job: its workflow.

use engine::SagaId;
use http::StatusCode;

use crate::{
    http::{JsonResponse, Problem},
    resources::workflows::load::load,
    state::ApiState,
};

/// Answers with the workflow of a dead job.
///
/// # Errors
/// A 404 when it is gone.
pub(super) async fn answer(
    state: &ApiState,
    status: StatusCode,
    saga: SagaId,
) -> Result<JsonResponse, Problem> {
    let workflow = load(state, saga.0).await?;
    Ok(JsonResponse::new(status, &workflow)?.location(format!("/api/workflows/{saga}")))
}
