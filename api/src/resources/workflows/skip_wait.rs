//! POST `/api/workflows/{workflow_id}/skip-wait`.

use axum::extract::State;
use engine::{SagaId, SkipWaitError};
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    body::{Workflow, example},
    load::{load, missing},
};
use crate::{
    extract::{Actor, IdPath, JsonBody, NoQuery, check_reason},
    http::{
        JsonResponse, Problem, ProblemCode,
        documented::{BODY_PROBLEMS, DATABASE_PROBLEMS, RESOURCE_PROBLEMS, problems},
    },
    state::ApiState,
};

problems!(Problems: BODY_PROBLEMS, RESOURCE_PROBLEMS, DATABASE_PROBLEMS, &[ProblemCode::NotWaiting]);

/// Why a wait is ended.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SkippedWorkflowWait {
    /// For the audit.
    #[schema(min_length = 1, format = "reason", example = "the customer called")]
    reason: String,
}

/// End the wait of a workflow
///
/// A workflow that waits for a time, or for a signal, goes on as if its time were over: a sleep is done, and a signal has
/// timed out. A workflow that does not wait is left as it is (409).
#[utoipa::path(
    post,
    path = "/api/workflows/{workflow_id}/skip-wait",
    tag = "workflows",
    params(("workflow_id" = uuid::Uuid, Path, description = "The workflow"), Actor),
    request_body(content = SkippedWorkflowWait, example = json!({"reason": "the customer called"})),
    responses(
        (
            status = 202,
            description = "The workflow, whose wait is over",
            body = Workflow,
            headers(("Location" = String, description = "The workflow")),
            example = json!(example())
        ),
        Problems
    )
)]
pub(crate) async fn skip_workflow_wait(
    State(state): State<ApiState>,
    IdPath(id): IdPath,
    _: NoQuery,
    actor: Actor,
    JsonBody { value: SkippedWorkflowWait { reason }, .. }: JsonBody<SkippedWorkflowWait>,
) -> Result<JsonResponse, Problem> {
    check_reason(&reason)?;
    match state.engine().skip_wait(SagaId(id), actor.audited_or("operator"), &reason).await {
        Ok(_) => {}
        Err(SkipWaitError::NotFound(_)) => return Err(missing(&state, id)),
        Err(error) => return Err(error.into()),
    }
    let workflow = load(&state, id).await?;
    Ok(JsonResponse::new(StatusCode::ACCEPTED, &workflow)?.location(format!("/api/workflows/{id}")))
}
