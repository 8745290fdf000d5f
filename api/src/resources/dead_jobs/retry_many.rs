//! POST `/api/dead-jobs/retry`.

use axum::extract::State;
use engine::BulkResult;

use super::{
    body::{DeadJobsRetry, DeadJobsRetryResult, UnresolvedDeadJob},
    bulk::{bulk, selected},
};
use crate::{
    extract::{Actor, JsonBody, NoQuery, check_reason},
    http::{
        JsonResponse, Problem,
        documented::{BODY_PROBLEMS, DATABASE_PROBLEMS, problems},
    },
    state::ApiState,
};

problems!(Problems: BODY_PROBLEMS, DATABASE_PROBLEMS);

/// Retry many dead jobs
///
/// Retries all that match the filter, oldest first, up to a limit, if `dry_run` is `false`; otherwise it counts the
/// matches and changes nothing. One that can't be retried is listed in `failed` and does not affect the others.
#[utoipa::path(
    post,
    path = "/api/dead-jobs/retry",
    tag = "dead jobs",
    params(Actor),
    request_body(content = DeadJobsRetry, example = json!({
        "filter": {"definition": "deliver-notification", "error_contains": "connection refused"},
        "dry_run": true,
        "reason": "the mail server is back"
    })),
    responses(
        (
            status = 200,
            description = "What was retried; in a dry run, what matches",
            body = DeadJobsRetryResult,
            example = json!({"dry_run": true, "matched": 17, "remaining": 17, "retried": [], "failed": []})
        ),
        Problems
    )
)]
pub(crate) async fn retry_dead_jobs(
    State(state): State<ApiState>,
    _: NoQuery,
    actor: Actor,
    JsonBody { value: retry, .. }: JsonBody<DeadJobsRetry>,
) -> Result<JsonResponse, Problem> {
    let filter = selected(retry.filter, retry.limit)?;
    let reason = retry.reason.unwrap_or_else(|| "no reason given".into());
    check_reason(&reason)?;
    let _permit = state.scan_permit()?;
    let matched = state.engine().count_dead_jobs(&filter).await?;
    let done = if retry.dry_run {
        BulkResult::default()
    } else {
        state
            .engine()
            .retry_dead_jobs(&filter, bulk(retry.limit), actor.audited_or("operator"), &reason)
            .await?
    };
    let remaining = state.engine().count_dead_jobs(&filter).await?;
    let retried = done.done.into_iter().map(|id| id.0).collect();
    let failed = UnresolvedDeadJob::each(done.failed);
    JsonResponse::ok(&DeadJobsRetryResult { dry_run: retry.dry_run, matched, remaining, retried, failed })
}
