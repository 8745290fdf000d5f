//! POST `/api/dead-jobs/{dead_job_id}/retry`.

use axum::extract::State;
use engine::DeadJobId;

use super::{
    body::DeadJobRetry,
    response::{RetriedWorkflow, retried, retried_example},
};
use crate::{
    extract::{Actor, IdPath, NoQuery, OptionalJsonBody, check_reason},
    http::{
        JsonResponse, Problem, ProblemCode,
        documented::{BODY_PROBLEMS, DATABASE_PROBLEMS, RESOURCE_PROBLEMS, problems},
    },
    state::ApiState,
};

problems!(RetryProblems: BODY_PROBLEMS, RESOURCE_PROBLEMS, DATABASE_PROBLEMS, &[ProblemCode::AlreadyResolved, ProblemCode::Archived]);

/// Retry a dead job
///
/// The workflow continues exactly where it stopped, with fresh attempts. The audit records who did it and why.
///
/// If this process lacks the workflow's code, because it was started with another version, a process that has the code is
/// asked (`requested`): the workflow stays `dead` until that one has retried it, and the dead job shows the request, or why
/// it was refused. A request for the same changes nothing, another one replaces it; it is void once the dead job is resolved in another way.
#[utoipa::path(
    post,
    path = "/api/dead-jobs/{dead_job_id}/retry",
    tag = "dead jobs",
    params(("dead_job_id" = uuid::Uuid, Path, description = "The dead job"), Actor),
    request_body(content = Option<DeadJobRetry>, example = json!({"reason": "the mail server is back"})),
    responses(
        (
            status = 202,
            description = "The workflow of the dead job, which runs again, or is still `dead` if that is `requested`",
            body = RetriedWorkflow,
            headers(("Location" = String, description = "The workflow")),
            example = json!(retried_example())
        ),
        RetryProblems
    )
)]
pub(crate) async fn retry_dead_job(
    State(state): State<ApiState>,
    IdPath(id): IdPath,
    _: NoQuery,
    actor: Actor,
    OptionalJsonBody(retry): OptionalJsonBody<DeadJobRetry>,
) -> Result<JsonResponse, Problem> {
    let reason = retry.reason.unwrap_or_else(|| "no reason given".into());
    check_reason(&reason)?;
    let done = state.engine().retry_dead_job(DeadJobId(id), actor.audited_or("operator"), &reason).await?;
    retried(&state, done).await
}
