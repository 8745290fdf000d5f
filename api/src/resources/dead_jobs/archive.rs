//! GET `/api/dead-jobs/archive` and of one archived dead job.

use axum::extract::State;
use engine::{DeadJobFilter, DeadJobId};
use serde_json::{Value, json};

use super::{
    body::{ArchivedDeadJob, ArchivedDeadJobList},
    example,
    read::DeadJobQuery,
};
use crate::{
    extract::{IdPath, PageRequest, Query, next_page},
    http::{
        JsonResponse, Problem,
        documented::{LIST, ONE, STORED, problems},
    },
    resources::page::page_of,
    state::ApiState,
};

problems!(OneProblems: ONE, STORED);
problems!(ListProblems: LIST, STORED);

/// Read an archived dead job
///
/// With its payload and every error. It can't be retried any more: start its workflow anew if it is still wanted.
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
    Query(()): Query<()>,
) -> Result<JsonResponse, Problem> {
    let job = state.engine().archived_dead_job(DeadJobId(id)).await?;
    JsonResponse::ok(&ArchivedDeadJob::from(job.ok_or_else(|| Problem::not_found("archived dead job", id))?))
}

/// List archived dead jobs
///
/// Those whose time to live is over, the last parked first. Unless asked for, those are left out that somebody had acted
/// on before.
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
            example = json!(page_of(&archived_example()))
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
    let rows = state.engine().archived_dead_jobs(&filter, page_request.engine_page()).await?;
    let (rows, next_cursor) = next_page(rows, &page_request, |job| job.dead_job.dead_job_id.0);
    JsonResponse::ok(&ArchivedDeadJobList { items: rows.into_iter().map(Into::into).collect(), next_cursor })
}

fn archived_example() -> Value {
    let mut job = example();
    job["expires_at"] = json!("2026-12-22T10:05:00Z");
    job["archived_at"] = json!("2026-12-22T10:05:20Z");
    job["why"] = json!("expired");
    job
}
