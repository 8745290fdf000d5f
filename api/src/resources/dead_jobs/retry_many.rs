//! POST `/api/dead-jobs/retry`.

use axum::extract::State;
use engine::DeadJobAction;

use super::{
    body::{DeadJobsRetry, DeadJobsRetryResult, UnresolvedDeadJob},
    bulk::{bulk, selected},
    plan::BulkAction,
};
use crate::{
    extract::{Actor, JsonBody, NoQuery, check_reason},
    http::{
        JsonResponse, Problem, ProblemCode,
        documented::{BODY_PROBLEMS, DATABASE_PROBLEMS, problems},
    },
    state::ApiState,
};

problems!(Problems: BODY_PROBLEMS, DATABASE_PROBLEMS, &[ProblemCode::PlanChanged]);

/// Retry many dead jobs
///
/// Retries all that match the filter, oldest first, up to a limit, if `dry_run` is `false`; otherwise it answers with the
/// plan of what it would do to which, and changes nothing. With the plan's token that is done, or, if it would be
/// something else by now, nothing (409 `plan-changed`, with the plan as it is now). One that can't be retried is listed in
/// `skipped` or `failed`, and does not affect the others. A process that has the code is asked to retry those whose code
/// this process lacks (`requested`); those for which it has been asked already are left out.
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
            example = json!({
                "dry_run": true, "matched": 17, "remaining": 17, "retried": [], "requested": [], "skipped": [], "failed": [],
                "plan": {
                    "plan_token": "AAZJ8S7vWAB4OwpEl1sGkfJ2cXjUoXwk", "count": 17,
                    "kinds": [{
                        "definition": "deliver-notification", "step": "send-mail", "direction": "action",
                        "effect": "retry", "why": null, "count": 17,
                        "samples": [{
                            "workflow_id": "0199f3a0-0000-7000-8000-000000000000",
                            "dead_job_id": "0199f3a1-0000-7000-8000-00000000dead"
                        }]
                    }]
                }
            })
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
    let audited = actor.audited_or("operator");
    let action = BulkAction {
        filter: &filter,
        action: DeadJobAction::Retry,
        limits: bulk(retry.limit),
        dry_run: retry.dry_run,
        plan_token: retry.plan_token.as_deref(),
        by: audited.into(),
        reason: &reason,
    };
    let (done, plan) = action.run(&state).await?;
    let remaining = state.engine().count_dead_jobs(&filter).await?;
    let retried = done.done.into_iter().map(|id| id.0).collect();
    let requested = done.requested.into_iter().map(|id| id.0).collect();
    let skipped = UnresolvedDeadJob::each(done.skipped);
    let failed = UnresolvedDeadJob::each(done.failed);
    JsonResponse::ok(&DeadJobsRetryResult {
        dry_run: retry.dry_run,
        matched,
        remaining,
        retried,
        requested,
        skipped,
        failed,
        plan,
    })
}
