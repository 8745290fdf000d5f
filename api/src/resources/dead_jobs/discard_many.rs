//! POST `/api/dead-jobs/discard`.

use axum::extract::State;

use super::{
    body::{DeadJobsDiscard, DeadJobsDiscarded},
    retry_many::selected,
};
use crate::{
    answer::Answer,
    problem::{
        Problem,
        answers::{BODY, STORED, problems},
    },
    request::{Actor, JsonBody, Query},
    resources::checked_reason,
    state::ApiState,
};

problems!(Problems: BODY, STORED);

/// Discard many dead jobs
///
/// All that match the filter, oldest first, up to a limit: their workflows end as they are, nothing more is done or
/// undone. Try it with `dry_run` first: it tells how many match and changes nothing. Who did it and why is kept.
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
            description = "What was, or would be, given up",
            body = DeadJobsDiscarded,
            example = json!({"dry_run": true, "matched": 17, "remaining": 17, "discarded": []})
        ),
        Problems
    )
)]
pub(crate) async fn discard_dead_jobs(
    State(state): State<ApiState>,
    Query(()): Query<()>,
    actor: Actor,
    JsonBody { value: discard, .. }: JsonBody<DeadJobsDiscard>,
) -> Result<Answer, Problem> {
    let filter = selected(discard.filter, discard.limit)?;
    if discard.reason.trim().is_empty() {
        return Err(Problem::field("/reason", "wrong-length", "say why they are given up"));
    }
    checked_reason(&discard.reason)?;
    let engine = state.engine();
    let matched = engine.count_dead_jobs(&filter).await?;
    let discarded = if discard.dry_run {
        Vec::new()
    } else {
        engine.discard_dead_jobs(&filter, discard.limit, actor.or("operator"), &discard.reason).await?
    };
    let remaining = engine.count_dead_jobs(&filter).await?;
    let discarded = discarded.into_iter().map(|id| id.0).collect();
    Answer::ok(&DeadJobsDiscarded { dry_run: discard.dry_run, matched, remaining, discarded })
}
