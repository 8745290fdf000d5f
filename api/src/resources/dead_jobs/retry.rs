//! POST `/api/dead-jobs/{dead_job_id}/retry`.

use axum::extract::State;
use engine::DeadJobId;
use http::StatusCode;

use super::{body::DeadJobRetry, response::answer};
use crate::{
    extract::{Actor, IdPath, NoQuery, OptionalJsonBody, check_reason},
    http::{
        JsonResponse, Problem, ProblemCode,
        documented::{BODY_PROBLEMS, DATABASE_PROBLEMS, RESOURCE_PROBLEMS, problems},
    },
    resources::workflows::body::{Workflow, example},
    state::ApiState,
};

problems!(RetryProblems: BODY_PROBLEMS, RESOURCE_PROBLEMS, DATABASE_PROBLEMS, &[ProblemCode::AlreadyResolved, ProblemCode::OtherVersion, ProblemCode::Archived]);

/// Retry a dead job
///
/// The workflow continues exactly where it stopped, with fresh attempts. The audit records who did it and why.
#[utoipa::path(
    post,
    path = "/api/dead-jobs/{dead_job_id}/retry",
    tag = "dead jobs",
    params(("dead_job_id" = uuid::Uuid, Path, description = "The dead job"), Actor),
    request_body(content = Option<DeadJobRetry>, example = json!({"reason": "the mail server is back"})),
    responses(
        (
            status = 202,
            description = "The workflow of the dead job, which runs again",
            body = Workflow,
            headers(("Location" = String, description = "The workflow")),
            example = json!(example())
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
    let saga = state.engine().retry_dead_job(DeadJobId(id), actor.audited_or("operator"), &reason).await?;
    answer(&state, StatusCode::ACCEPTED, saga).await
}
