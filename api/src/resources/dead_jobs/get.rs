//! GET `/api/dead-jobs/{dead_job_id}`.

use axum::extract::State;
use engine::DeadJobId;

use super::{body::DeadJob, examples::example};
use crate::{
    extract::{IdPath, NoQuery},
    http::{
        JsonResponse, Problem, ProblemCode,
        documented::{DATABASE_PROBLEMS, RESOURCE_PROBLEMS, problems},
    },
    state::ApiState,
};

problems!(OneProblems: RESOURCE_PROBLEMS, DATABASE_PROBLEMS, &[ProblemCode::Archived]);

/// Read a dead job
///
/// Returns a dead job with its payload and every error. One that has been archived is a 410; read it in the archive.
#[utoipa::path(
    get,
    path = "/api/dead-jobs/{dead_job_id}",
    tag = "dead jobs",
    params(("dead_job_id" = Uuid, Path, description = "The dead job")),
    responses(
        (status = 200, description = "The dead job", body = DeadJob, example = json!(example())),
        OneProblems
    )
)]
pub(crate) async fn get_dead_job(
    State(state): State<ApiState>,
    IdPath(id): IdPath,
    _: NoQuery,
) -> Result<JsonResponse, Problem> {
    let id = DeadJobId(id);
    if let Some(job) = state.engine().dead_job_with_payload(id).await? {
        return JsonResponse::ok(&DeadJob::from(job));
    }
    let archived = state.engine().archived_dead_job(id).await?.is_some();
    Err(if archived { Problem::archived(id) } else { Problem::not_found("dead job", id) })
}
