//! Retries and discards dead jobs, one or many at a time.

use std::time::{Duration, Instant};

use sqlx::PgConnection;

use crate::{
    engine::Engine,
    model::error_chain::ErrorChain,
    model::{
        audit::Operator,
        dead_job::{DeadJobFilter, DeadJobResolution},
        error::DeadJobError,
        ids::{DeadJobId, SagaId},
        kinds::UndoKind,
        outcome::{CancelOrigin, chain},
        status::Direction,
        transition::{DiscardEffect, Event, discard, transition},
        views::HistoryOutcome,
    },
    operate::decision::LoadedSaga,
    runtime::{
        core::Core,
        effects::{self, CommitEffects},
    },
    store::{
        self,
        audit::{AuditEntry, AuditReason},
        commits::SagaLock,
    },
    support::connection::concerns_everybody,
};

/// How many dead jobs are read at once.
const BATCH_SIZE: u32 = 100;

/// Whether a discard may leave effects that are not undone, because the undo itself is what failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscardMode {
    /// It may not: the discard is refused. The operator should fix the cause and retry the undo.
    Safe,
    /// It may: an operator has reversed the effects by hand.
    Force,
}

/// The result of a discard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discarded {
    /// The id of the saga.
    pub saga_id: SagaId,
    /// Whether the saga compensates, ended as it was, or was abandoned.
    pub effect: DiscardEffect,
}

/// Limits of an action on many dead jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkLimits {
    /// The most dead jobs to act on, oldest first.
    pub max_jobs: u32,
    /// The time after which no further dead job is started.
    pub time_limit: Duration,
}

/// The result of an action on many dead jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BulkResult {
    /// The dead jobs that were acted on, oldest first.
    pub done: Vec<DeadJobId>,
    /// Those of them whose sagas compensate now.
    pub compensating: Vec<DeadJobId>,
    /// The dead jobs that were skipped because the action does not apply to them, with the reason.
    pub skipped: Vec<(DeadJobId, String)>,
    /// The dead jobs that could not be acted on, with the error. Such a failure does not stop the action on the others.
    pub failed: Vec<(DeadJobId, String)>,
}

impl Engine {
    /// Makes a dead saga continue exactly where it died, with fresh attempts.
    ///
    /// # Errors
    /// When there is no such dead job, or an operator has already acted on it.
    pub async fn retry_dead_job(
        &self,
        id: DeadJobId,
        by: impl Into<Operator<'_>>,
        reason: &str,
    ) -> Result<SagaId, DeadJobError> {
        self.act(id, Action::Retry, &by.into(), reason).await.map(|done| done.saga_id)
    }

    /// Gives a dead saga up for good. A saga that can still compensate does so, as if it had been cancelled; a saga
    /// past its pivot stays `dead`, and ends. See [`DiscardEffect`].
    ///
    /// # Errors
    /// As [`Engine::retry_dead_job`]; and [`DeadJobError::NotUndone`] for a saga that died while compensating, unless
    /// the discard is forced.
    pub async fn discard_dead_job(
        &self,
        id: DeadJobId,
        mode: DiscardMode,
        by: impl Into<Operator<'_>>,
        reason: &str,
    ) -> Result<Discarded, DeadJobError> {
        let Acted { saga_id, effect } = self.act(id, Action::Discard(mode), &by.into(), reason).await?;
        Ok(Discarded { saga_id, effect: effect.unwrap_or(DiscardEffect::Finish) })
    }

    /// Retries the open dead jobs that match, oldest first, each in its own transaction. Skips a dead job on which
    /// another operator acts in the meantime.
    ///
    /// # Errors
    /// When the database can't be reached; dead jobs retried before that stay retried.
    pub async fn retry_dead_jobs(
        &self,
        filter: &DeadJobFilter,
        limits: BulkLimits,
        by: impl Into<Operator<'_>>,
        reason: &str,
    ) -> Result<BulkResult, sqlx::Error> {
        self.act_on_many(filter, limits, Action::Retry, &by.into(), reason).await
    }

    /// Discards the open dead jobs that match, oldest first, each in its own transaction, as
    /// [`Engine::discard_dead_job`] does. Skips a dead job on which another operator acts in the meantime.
    ///
    /// # Errors
    /// When the database can't be reached; dead jobs discarded before that stay discarded.
    pub async fn discard_dead_jobs(
        &self,
        filter: &DeadJobFilter,
        limits: BulkLimits,
        mode: DiscardMode,
        by: impl Into<Operator<'_>>,
        reason: &str,
    ) -> Result<BulkResult, sqlx::Error> {
        self.act_on_many(filter, limits, Action::Discard(mode), &by.into(), reason).await
    }

    async fn act_on_many(
        &self,
        filter: &DeadJobFilter,
        limits: BulkLimits,
        action: Action,
        by: &Operator<'_>,
        reason: &str,
    ) -> Result<BulkResult, sqlx::Error> {
        let (began, max_jobs) = (Instant::now(), limits.max_jobs as usize);
        // Excludes sagas that die again during this call, so that it can't go on forever.
        let now = self.now().await?;
        let until = filter.died_before.map_or(now, |before| before.min(now));
        let filter = DeadJobFilter { died_before: Some(until), ..filter.clone() };
        let (mut done, mut after) = (BulkResult::default(), None);
        loop {
            let ids = store::dead_jobs::open_ids(self.pool(), &filter, after, BATCH_SIZE).await?;
            let Some(last) = ids.last().copied() else { return Ok(done) };
            after = Some(last);
            for id in ids.into_iter().map(DeadJobId) {
                record_result(&mut done, id, self.act(id, action, by, reason).await)?;
                // Skipped and failed dead jobs stay open, so the next call reads them again. They count against the
                // limit, too.
                let enough =
                    done.done.len() >= max_jobs || done.skipped.len() + done.failed.len() >= max_jobs;
                if enough || began.elapsed() >= limits.time_limit {
                    return Ok(done);
                }
            }
        }
    }

    async fn act(
        &self,
        id: DeadJobId,
        action: Action,
        by: &Operator<'_>,
        reason: &str,
    ) -> Result<Acted, DeadJobError> {
        let mut transaction = self.core.pool.begin().await?;
        let (done, after) = act(&self.core, &mut transaction, id, action, by, reason).await?;
        transaction.commit().await?;
        effects::publish(&self.core, after);
        Ok(done)
    }
}

/// Adds the result for one dead job to `done`. Returns an error only when the database can't be reached; other failures
/// are recorded, so that the remaining dead jobs are still acted on.
fn record_result(
    done: &mut BulkResult,
    id: DeadJobId,
    result: Result<Acted, DeadJobError>,
) -> Result<(), sqlx::Error> {
    match result {
        Ok(Acted { effect, .. }) => {
            done.done.push(id);
            if effect == Some(DiscardEffect::Compensate) {
                done.compensating.push(id);
            }
        }
        // Another operator acted on it.
        Err(DeadJobError::NotFound(_) | DeadJobError::AlreadyResolved(_) | DeadJobError::Archived(_)) => {}
        Err(error @ DeadJobError::NotUndone { .. }) => done.skipped.push((id, error.to_string())),
        Err(DeadJobError::Database(error)) if concerns_everybody(&error) => return Err(error),
        Err(error @ (DeadJobError::Database(_) | DeadJobError::RefusedByObserver(_))) => {
            tracing::error!(dead_job.id = %id, error = %ErrorChain(&error), "a dead job can't be acted on; it is skipped");
            done.failed.push((id, chain(&error).join(": ")));
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Action {
    Retry,
    Discard(DiscardMode),
}

struct Acted {
    saga_id: SagaId,
    /// The effect of a discard; `None` for a retry.
    effect: Option<DiscardEffect>,
}

async fn act(
    core: &Core,
    conn: &mut PgConnection,
    id: DeadJobId,
    action: Action,
    by: &Operator<'_>,
    reason: &str,
) -> Result<(Acted, CommitEffects), DeadJobError> {
    let Some(saga_id) = store::dead_jobs::dead_job_saga(conn, id.0).await? else {
        return Err(gone(conn, id).await?);
    };
    let saga_id = SagaId(saga_id);
    // The saga is locked first, as in a cancel, so that the two can't deadlock.
    let row = store::commits::load(conn, saga_id.0, SagaLock::Wait).await?;
    match store::dead_jobs::lock(conn, id.0).await? {
        None => return Err(gone(conn, id).await?),
        Some((_, Some(done))) => return Err(DeadJobError::AlreadyResolved(done)),
        Some((_, None)) => {}
    }
    let Some(row) = row else { return Err(DeadJobError::NotFound(id)) };
    let saga = LoadedSaga::new(core, saga_id, row)?;
    let effect = discard(saga.graph(), &saga.state);
    if effect == DiscardEffect::Abandon && matches!(action, Action::Discard(DiscardMode::Safe)) {
        return Err(DeadJobError::NotUndone { step: saga.row.step.clone(), why: not_undone(&saga) });
    }
    let (event, outcome) = match (action, effect) {
        (Action::Retry, _) => (Event::Retried, HistoryOutcome::Retried),
        (Action::Discard(_), DiscardEffect::Compensate) => {
            let (actor, reason, origin) = (by.actor.into(), reason.into(), CancelOrigin::Discarded);
            (Event::Cancel { actor, reason, origin }, HistoryOutcome::Cancelled)
        }
        (Action::Discard(_), DiscardEffect::Finish | DiscardEffect::Abandon) => {
            (Event::Discarded, HistoryOutcome::Discarded)
        }
    };
    let Ok((state, _)) = transition(saga.graph(), &saga.state, &event) else {
        let moved_on = format!("moved on: its saga is {}", saga.state.status);
        return Err(DeadJobError::AlreadyResolved(moved_on));
    };
    let (action, resolution, effect) = match action {
        Action::Retry => ("retry", DeadJobResolution::Retried, None),
        Action::Discard(_) => ("discard", DeadJobResolution::Discarded, Some(effect)),
    };
    store::dead_jobs::resolve(conn, saga_id.0, resolution, by.actor, reason).await?;
    let mut after = saga.audit_json_as(&state);
    match effect {
        None | Some(DiscardEffect::Compensate) => {}
        Some(DiscardEffect::Finish) => after["ended"] = true.into(),
        Some(DiscardEffect::Abandon) => (after["ended"], after["abandoned"]) = (true.into(), true.into()),
    }
    let request = AuditReason { by, action, reason };
    let audit = AuditEntry { request, saga_id, dead_job_id: Some(id.0), before: saga.audit_json(), after };
    store::audit::record(conn, &audit).await?;
    let why = format!("{resolution} by {}: {reason}", by.actor);
    let after = saga.apply(core, conn, state, outcome, why).await?;
    Ok((Acted { saga_id, effect }, after))
}

/// Describes what a discard would leave without an undo, as far as this process knows.
fn not_undone(saga: &LoadedSaga) -> String {
    let graph = saga.graph();
    if saga.state.direction == Direction::Action || saga.state.step_index >= graph.steps.len() {
        let step = &saga.row.step;
        return format!(
            "this process does not know its step `{step}`, and so not which effects would remain"
        );
    }
    let standing = graph.steps[..=saga.state.step_index].iter();
    let standing: Vec<_> = standing
        .filter(|node| node.undo == UndoKind::HasUndo)
        .map(|node| format!("`{}`", node.name))
        .collect();
    format!("it died while compensating, and these steps are not undone: {}", standing.join(", "))
}

/// The error for a dead job that is not open: archived or not found.
async fn gone(conn: &mut PgConnection, id: DeadJobId) -> Result<DeadJobError, sqlx::Error> {
    let archived = store::archive::is_archived(conn, id.0).await?;
    Ok(if archived { DeadJobError::Archived(id) } else { DeadJobError::NotFound(id) })
}
