//! POST `/api/workflows/{workflow_id}/cancel`.

use axum::extract::State;
use engine::{CancelError, SagaId};
use http::StatusCode;

use super::{
    body::{Workflow, WorkflowCancellation, example},
    load::{load, missing},
};
use crate::{
    extract::{Actor, IdPath, NoQuery, OptionalJsonBody, check_reason},
    http::{
        JsonResponse, Problem, ProblemCode,
        documented::{BODY_PROBLEMS, DATABASE_PROBLEMS, RESOURCE_PROBLEMS, problems},
    },
    state::ApiState,
};

problems!(Problems: BODY_PROBLEMS, RESOURCE_PROBLEMS, DATABASE_PROBLEMS, &[ProblemCode::PastPivot, ProblemCode::WorkflowEnded]);

/// Cancel a workflow
///
/// The workflow compensates as if it had failed: what was done is undone, in reverse order. Past its point of no
/// return, or once it has ended, it can't be cancelled (409). Cancelling a workflow that already compensates changes
/// nothing.
///
/// While a step is running, or another transaction holds the workflow, the cancel is noted (`cancel_requested`) and
/// followed afterwards. If the workflow passes its point of no return first, it goes on; if it places an order, the
/// order is then cancelled by a `cancel-order` workflow.
#[utoipa::path(
    post,
    path = "/api/workflows/{workflow_id}/cancel",
    tag = "workflows",
    params(("workflow_id" = uuid::Uuid, Path, description = "The workflow"), Actor),
    request_body(content = Option<WorkflowCancellation>, example = json!({"reason": "wrong input"})),
    responses(
        (
            status = 202,
            description = "The workflow, which compensates, or will do so after its current step",
            body = Workflow,
            headers(("Location" = String, description = "The workflow")),
            example = json!(example())
        ),
        Problems
    )
)]
pub(crate) async fn cancel_workflow(
    State(state): State<ApiState>,
    IdPath(id): IdPath,
    _: NoQuery,
    actor: Actor,
    OptionalJsonBody(cancellation): OptionalJsonBody<WorkflowCancellation>,
) -> Result<JsonResponse, Problem> {
    let reason = cancellation.reason.unwrap_or_else(|| "no reason given".into());
    check_reason(&reason)?;
    let cancelled = state.engine().cancel(SagaId(id), actor.audited_or("operator"), &reason).await;
    if let Err(CancelError::NotFound(_)) = cancelled {
        return Err(missing(&state, id));
    }
    cancelled?;
    let workflow = load(&state, id).await?;
    Ok(JsonResponse::new(StatusCode::ACCEPTED, &workflow)?.location(format!("/api/workflows/{id}")))
}
