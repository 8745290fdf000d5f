//! POST `/api/dead-jobs/{dead_job_id}/discard`.

use axum::extract::State;
use engine::DeadJobId;

use super::{
    body::DeadJobDiscard,
    bulk::discard_mode,
    response::{DiscardedWorkflow, discard_requested_example, discarded, discarded_example},
};
use crate::{
    extract::{Actor, IdPath, JsonBody, NoQuery, check_reason},
    http::{
        JsonResponse, Problem, ProblemCode,
        documented::{BODY_PROBLEMS, DATABASE_PROBLEMS, RESOURCE_PROBLEMS, problems},
    },
    state::ApiState,
};

problems!(DiscardProblems: BODY_PROBLEMS, RESOURCE_PROBLEMS, DATABASE_PROBLEMS, &[ProblemCode::AlreadyResolved, ProblemCode::NotUndone, ProblemCode::Archived]);

/// Discard a dead job
///
/// A workflow that can still compensate does so, as if it had been cancelled: everything it did is undone. A workflow
/// past its point of no return ends as it is, `dead`. A workflow that died in an undo, or that has children that have
/// not ended, is refused (409): retry it once the cause is fixed; or set `force`, and take care of what is not undone
/// yourself. Its children are then cancelled, but for those that are past their own point of no return: `left_children`
/// counts both. The audit records who did it and why.
///
/// If this process lacks the workflow's code, because it was started with another version, a process that has the code is
/// asked (202, `requested`): the workflow stays `dead` until that one has discarded it, and the dead job shows the request,
/// or why it was refused. A request for the same changes nothing, another one replaces it; it is void once the dead job is resolved in another way. With `force`,
/// the workflow is ended as it is at once if no live process has its code.
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
        (
            status = 202,
            description = "The workflow of the dead job, which is still `dead`: a process that has its code is asked to discard it",
            body = DiscardedWorkflow,
            headers(("Location" = String, description = "The workflow")),
            example = json!(discard_requested_example())
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
