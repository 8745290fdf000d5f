//! GET `/api/dead-jobs/archive`.

use axum::extract::State;
use engine::DeadJobFilter;

use super::{body::ArchivedDeadJobList, examples::listed_archived_example, query::DeadJobQuery};
use crate::{
    extract::{PageRequest, Query},
    http::{
        JsonResponse, Problem,
        documented::{DATABASE_PROBLEMS, LIST_PROBLEMS, problems},
    },
    resources::page::page_of,
    state::ApiState,
};

problems!(ListProblems: LIST_PROBLEMS, DATABASE_PROBLEMS);

/// List archived dead jobs
///
/// Lists archived dead jobs without their payloads, those that died last first. Those that had been resolved are left out unless
/// `with_resolved` is set.
#[utoipa::path(
    get,
    path = "/api/dead-jobs/archive",
    tag = "dead jobs",
    params(DeadJobQuery),
    responses(
        (
            status = 200,
            description = "A page of archived dead jobs",
            body = ArchivedDeadJobList,
            example = json!(page_of(&listed_archived_example()))
        ),
        ListProblems
    )
)]
pub(crate) async fn list_archived_dead_jobs(
    State(state): State<ApiState>,
    Query(query): Query<DeadJobQuery>,
) -> Result<JsonResponse, Problem> {
    let (filter, cursor, limit): (DeadJobFilter, _, _) = query.parts();
    let page_request =
        PageRequest::new("dead-jobs-archive", &format!("{filter:?}"), cursor.as_deref(), limit)?;
    let _permit = state.list_permit(filter.may_scan())?;
    let rows = state.engine().archived_dead_jobs(&filter, page_request.engine_page()).await?;
    JsonResponse::ok(&ArchivedDeadJobList::of(rows, &page_request, |job| job.dead_job.dead_job_id.0))
}
