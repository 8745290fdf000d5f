//! GET `/api/dead-jobs/archive/{dead_job_id}`.

use axum::extract::State;
use engine::DeadJobId;

use super::{body::ArchivedDeadJob, examples::archived_example};
use crate::{
    extract::{IdPath, NoQuery},
    http::{
        JsonResponse, Problem,
        documented::{DATABASE_PROBLEMS, RESOURCE_PROBLEMS, problems},
    },
    state::ApiState,
};

problems!(OneProblems: RESOURCE_PROBLEMS, DATABASE_PROBLEMS);

/// Read an archived dead job
///
/// Returns an archived dead job with its payload and every error. It can no longer be retried: start a new workflow if
/// it is still needed.
#[utoipa::path(
    get,
    path = "/api/dead-jobs/archive/{dead_job_id}",
    tag = "dead jobs",
    params(("dead_job_id" = uuid::Uuid, Path, description = "The dead job")),
    responses(
        (
            status = 200,
            description = "The archived dead job",
            body = ArchivedDeadJob,
            example = json!(archived_example())
        ),
        OneProblems
    )
)]
pub(crate) async fn get_archived_dead_job(
    State(state): State<ApiState>,
    IdPath(id): IdPath,
    _: NoQuery,
) -> Result<JsonResponse, Problem> {
    let job = state.engine().archived_dead_job_with_payload(DeadJobId(id)).await?;
    JsonResponse::ok(&ArchivedDeadJob::from(job.ok_or_else(|| Problem::not_found("archived dead job", id))?))
}
