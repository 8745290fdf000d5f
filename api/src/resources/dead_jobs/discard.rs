//! POST `/api/dead-jobs/{dead_job_id}/discard`.

use axum::extract::State;
use engine::DeadJobId;

use super::{
    body::DeadJobDiscard,
    bulk::discard_mode,
    response::{DiscardedWorkflow, discarded, discarded_example},
};
use crate::{
    extract::{Actor, IdPath, JsonBody, NoQuery, check_reason},
    http::{
        JsonResponse, Problem, ProblemCode,
        documented::{BODY_PROBLEMS, DATABASE_PROBLEMS, RESOURCE_PROBLEMS, problems},
    },
    state::ApiState,
};

problems!(DiscardProblems: BODY_PROBLEMS, RESOURCE_PROBLEMS, DATABASE_PROBLEMS, &[ProblemCode::AlreadyResolved, ProblemCode::OtherVersion, ProblemCode::NotUndone, ProblemCode::Archived]);

/// Discard a dead job
///
/// A workflow that can still compensate does so, as if it had been cancelled: everything it did is undone. A workflow
/// past its point of no return ends as it is, `dead`. A workflow that died in an undo, or that has children that have
/// not ended, is refused (409): retry it once the cause is fixed; or set `force`, and take care of what is not undone
/// yourself. Its children are then cancelled, but for those that are past their own point of no return: `left_children`
/// counts both. The audit records who did it and why.
#[utoipa::path(
    post,
    path = "/api/dead-jobs/{dead_job_id}/discard",
    tag = "dead jobs",
    params(("dead_job_id" = uuid::Uuid, Path, description = "The dead job"), Actor),
    request_body(content = DeadJobDiscard, example = json!({"reason": "the customer was called"})),
    responses(
        (
            status = 200,
            description = "The workflow of the dead job, which compensates (`compensating` or `compensated`) or has ended (`dead`)",
            body = DiscardedWorkflow,
            headers(("Location" = String, description = "The workflow")),
            example = json!(discarded_example())
        ),
        DiscardProblems
    )
)]
pub(crate) async fn discard_dead_job(
    State(state): State<ApiState>,
    IdPath(id): IdPath,
    _: NoQuery,
    actor: Actor,
    JsonBody { value: discard, .. }: JsonBody<DeadJobDiscard>,
) -> Result<JsonResponse, Problem> {
    if discard.reason.trim().is_empty() {
        return Err(Problem::field("/reason", "wrong-length", "say why it is given up"));
    }
    check_reason(&discard.reason)?;
    let (mode, by) = (discard_mode(discard.force), actor.audited_or("operator"));
    let done = state.engine().discard_dead_job(DeadJobId(id), mode, by, &discard.reason).await?;
    discarded(&state, done).await
}
