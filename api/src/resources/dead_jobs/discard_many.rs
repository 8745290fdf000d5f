//! POST `/api/dead-jobs/discard`.

use axum::extract::State;
use engine::{DeadJobAction, DeadJobId};

use super::{
    body::{DeadJobsDiscard, DeadJobsDiscardResult, UnresolvedDeadJob},
    bulk::{bulk, discard_mode, selected},
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

/// Discard many dead jobs
///
/// Discards all that match the filter, oldest first, up to a limit, if `dry_run` is `false`; otherwise it answers with
/// the plan of what it would do to which, and changes nothing. With the plan's token that is done, or, if it
/// would be something else by now, nothing (409 `plan-changed`, with the plan as it is now). Each is discarded as if it
/// were alone: a workflow that
/// can still compensate does so, one past its point of no return ends as it is, and one that died in an undo is
/// skipped, with the reason, unless `force` is set. A process that has the code is asked to discard those whose code this
/// process lacks (`requested`); those for which it has been asked already are left out. The audit records who did it and why.
#[utoipa::path(
    post,
    path = "/api/dead-jobs/discard",
    tag = "dead jobs",
    params(Actor),
    request_body(content = DeadJobsDiscard, example = json!({
        "filter": {"definition": "deliver-notification", "died_before": "2026-10-01T00:00:00Z"},
        "dry_run": true,
        "reason": "too old to matter"
    })),
    responses(
        (
            status = 200,
            description = "What was discarded; in a dry run, what matches",
            body = DeadJobsDiscardResult,
            example = json!({
                "dry_run": true, "matched": 17, "remaining": 17,
                "discarded": [], "compensating": [], "requested": [], "skipped": [], "failed": [],
                "plan": {
                    "plan_token": "AAZJ8S7vWAB4OwpEl1sGkfJ2cXjUoXwk", "count": 17,
                    "kinds": [{
                        "definition": "deliver-notification", "step": "send-mail", "direction": "action", "effect": "end",
                        "why": null, "count": 17,
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
pub(crate) async fn discard_dead_jobs(
    State(state): State<ApiState>,
    _: NoQuery,
    actor: Actor,
    JsonBody { value: discard, .. }: JsonBody<DeadJobsDiscard>,
) -> Result<JsonResponse, Problem> {
    let filter = selected(discard.filter, discard.limit)?;
    if discard.reason.trim().is_empty() {
        return Err(Problem::field("/reason", "wrong-length", "say why they are given up"));
    }
    check_reason(&discard.reason)?;
    let _permit = state.scan_permit()?;
    let matched = state.engine().count_dead_jobs(&filter).await?;
    let audited = actor.audited_or("operator");
    let action = BulkAction {
        filter: &filter,
        action: DeadJobAction::Discard(discard_mode(discard.force)),
        limits: bulk(discard.limit),
        dry_run: discard.dry_run,
        plan_token: discard.plan_token.as_deref(),
        by: audited.into(),
        reason: &discard.reason,
    };
    let (done, plan) = action.run(&state).await?;
    let remaining = state.engine().count_dead_jobs(&filter).await?;
    let ids = |ids: Vec<DeadJobId>| ids.into_iter().map(|id| id.0).collect();
    JsonResponse::ok(&DeadJobsDiscardResult {
        dry_run: discard.dry_run,
        matched,
        remaining,
        discarded: ids(done.done),
        compensating: ids(done.compensating),
        requested: ids(done.requested),
        skipped: UnresolvedDeadJob::each(done.skipped),
        failed: UnresolvedDeadJob::each(done.failed),
        plan,
    })
}
