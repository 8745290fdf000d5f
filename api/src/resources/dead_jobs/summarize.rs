//! GET `/api/dead-jobs/summary`.

use axum::extract::State;
use engine::DeadJobFilter;
use utoipa::IntoParams;

use super::body::DeadJobSummary;
use crate::{
    extract::{FromParams, Params, Query, Timestamp},
    http::{
        JsonResponse, Problem, ProblemCode,
        documented::{DATABASE_PROBLEMS, problems},
    },
    state::ApiState,
};

problems!(Problems: DATABASE_PROBLEMS, &[ProblemCode::InvalidParameter]);

/// Which dead jobs to count.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct SummaryQuery {
    /// Only those of this definition.
    definition: Option<String>,
    /// Only those that died at this step.
    step: Option<String>,
    /// Only those whose last error contains this text.
    #[param(max_length = 200)]
    error_contains: Option<String>,
    /// Only those that died before this time (RFC 3339).
    #[param(value_type = Option<DateTime<Utc>>)]
    died_before: Option<Timestamp>,
    /// Only those that died after this time (RFC 3339).
    #[param(value_type = Option<DateTime<Utc>>)]
    died_after: Option<Timestamp>,
}

impl FromParams for SummaryQuery {
    fn from_params(params: &mut Params) -> Self {
        Self {
            definition: params.text("definition", 64),
            step: params.text("step", 64),
            error_contains: params.text("error_contains", 200),
            died_before: params.take("died_before"),
            died_after: params.take("died_after"),
        }
    }
}

/// Count dead jobs
///
/// Counts unresolved dead jobs, by step and by last error.
///
/// Few counts are made at a time (503 `overloaded` beyond that), each for two seconds at most (503 `timeout`).
#[utoipa::path(
    get,
    path = "/api/dead-jobs/summary",
    tag = "dead jobs",
    params(SummaryQuery),
    responses(
        (
            status = 200,
            description = "The counts",
            body = DeadJobSummary,
            example = json!({
                "count": 17,
                "by_kind": [{
                    "definition": "deliver-notification", "step": "send-mail", "direction": "action", "count": 17,
                    "oldest_died_at": "2026-11-22T10:05:00Z", "newest_died_at": "2026-11-22T11:00:00Z"
                }],
                "by_error": [{
                    "error": "the mail server does not answer", "count": 17,
                    "oldest_died_at": "2026-11-22T10:05:00Z", "newest_died_at": "2026-11-22T11:00:00Z"
                }]
            })
        ),
        Problems
    )
)]
pub(crate) async fn summarize_dead_jobs(
    State(state): State<ApiState>,
    Query(query): Query<SummaryQuery>,
) -> Result<JsonResponse, Problem> {
    let filter = DeadJobFilter {
        definition: query.definition,
        step: query.step,
        error_contains: query.error_contains,
        died_before: query.died_before.map(Into::into),
        died_after: query.died_after.map(Into::into),
        with_resolved: false,
    };
    let _permit = state.scan_permit()?;
    JsonResponse::ok(&DeadJobSummary::from(state.engine().summarize_dead_jobs(&filter).await?))
}
