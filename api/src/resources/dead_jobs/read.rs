//! GET of one dead job and of lists of them.

use axum::extract::State;
use engine::{DeadJobFilter, DeadJobId};
use utoipa::IntoParams;

use super::{
    body::{DeadJob, DeadJobList},
    example,
};
use crate::{
    extract::{FromParams, IdPath, PageRequest, Params, Query, Timestamp, next_page},
    http::{
        JsonResponse, Problem, ProblemCode,
        documented::{LIST, ONE, STORED, problems},
    },
    resources::page::page_of,
    state::ApiState,
};

problems!(OneProblems: ONE, STORED, &[ProblemCode::Archived]);
problems!(ListProblems: LIST, STORED);

/// Which dead jobs to list.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeadJobQuery {
    /// Only those of this definition.
    definition: Option<String>,
    /// Only those that died at this step.
    step: Option<String>,
    /// Only those whose last error contains this text.
    #[param(max_length = 200)]
    error_contains: Option<String>,
    /// Only those parked before this time (RFC 3339).
    #[param(value_type = Option<DateTime<Utc>>)]
    died_before: Option<Timestamp>,
    /// Only those parked after this time (RFC 3339).
    #[param(value_type = Option<DateTime<Utc>>)]
    died_after: Option<Timestamp>,
    /// With those that somebody has acted on.
    #[param(default = false)]
    with_resolved: Option<bool>,
    /// `next_cursor` of the page before, with the same filter.
    cursor: Option<String>,
    /// How many at most, 1 to 200; 50 if left out.
    #[param(minimum = 1, maximum = 200, default = 50, required = false)]
    limit: u32,
}

impl FromParams for DeadJobQuery {
    fn from_params(params: &mut Params) -> Self {
        Self {
            definition: params.text("definition", 64),
            step: params.text("step", 64),
            error_contains: params.text("error_contains", 200),
            died_before: params.take("died_before"),
            died_after: params.take("died_after"),
            with_resolved: params.take("with_resolved"),
            cursor: params.text("cursor", 256),
            limit: params.limit(),
        }
    }
}

impl DeadJobQuery {
    /// The filter, the cursor and the limit.
    pub(super) fn parts(self) -> (DeadJobFilter, Option<String>, u32) {
        let filter = DeadJobFilter {
            definition: self.definition,
            step: self.step,
            error_contains: self.error_contains,
            died_before: self.died_before.map(Into::into),
            died_after: self.died_after.map(Into::into),
            with_resolved: self.with_resolved.unwrap_or_default(),
        };
        (filter, self.cursor, self.limit)
    }
}

/// Read a dead job
///
/// With its payload and every error. One whose time to live is over is a 410 and stands in the archive.
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
    Query(()): Query<()>,
) -> Result<JsonResponse, Problem> {
    let id = DeadJobId(id);
    if let Some(job) = state.engine().dead_job(id).await? {
        return JsonResponse::ok(&DeadJob::from(job));
    }
    let archived = state.engine().archived_dead_job(id).await?.is_some();
    Err(if archived { Problem::archived(id) } else { Problem::not_found("dead job", id) })
}

/// List dead jobs
///
/// Newest first; those that somebody has acted on are left out unless asked for.
#[utoipa::path(
    get,
    path = "/api/dead-jobs",
    tag = "dead jobs",
    params(DeadJobQuery),
    responses(
        (status = 200, description = "A page of dead jobs", body = DeadJobList, example = json!(page_of(&example()))),
        ListProblems
    )
)]
pub(crate) async fn list_dead_jobs(
    State(state): State<ApiState>,
    Query(query): Query<DeadJobQuery>,
) -> Result<JsonResponse, Problem> {
    let (filter, cursor, limit) = query.parts();
    let page_request = PageRequest::new("dead-jobs", &format!("{filter:?}"), cursor.as_deref(), limit)?;
    let rows = state.engine().dead_jobs(&filter, page_request.engine_page()).await?;
    let (rows, next_cursor) = next_page(rows, &page_request, |job| job.dead_job_id.0);
    JsonResponse::ok(&DeadJobList { items: rows.into_iter().map(Into::into).collect(), next_cursor })
}
