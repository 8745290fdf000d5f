//! GET `/api/dead-jobs`.

use axum::extract::State;

use super::{body::DeadJobList, examples::listed_example, query::DeadJobQuery};
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

/// List dead jobs
///
/// Lists dead jobs, newest first, without their payloads. Resolved ones are left out unless `with_resolved` is set.
///
/// With a text, a time, or a definition and a step, the list may have to look at many dead jobs: few such lists are read at
/// a time (503 `overloaded` beyond that), each for two seconds at most (503 `timeout`).
#[utoipa::path(
    get,
    path = "/api/dead-jobs",
    tag = "dead jobs",
    params(DeadJobQuery),
    responses(
        (status = 200, description = "A page of dead jobs", body = DeadJobList, example = json!(page_of(&listed_example()))),
        ListProblems
    )
)]
pub(crate) async fn list_dead_jobs(
    State(state): State<ApiState>,
    Query(query): Query<DeadJobQuery>,
) -> Result<JsonResponse, Problem> {
    let (filter, cursor, limit) = query.parts();
    let page_request = PageRequest::new("dead-jobs", &format!("{filter:?}"), cursor.as_deref(), limit)?;
    let _permit = state.list_permit(filter.may_scan())?;
    let rows = state.engine().dead_jobs(&filter, page_request.engine_page()).await?;
    JsonResponse::ok(&DeadJobList::of(rows, &page_request, |job| job.dead_job_id.0))
}
