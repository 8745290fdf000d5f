//! Cancels sagas. The cancel and its audit record are one transaction.
//!
//! A cancel never waits for a saga's row. If another transaction holds it, the cancel is noted in the inbox, and
//! delivered as soon as that transaction has ended (`operate/inbox.rs`, `docs/decisions/0029`).

use sqlx::PgConnection;

use crate::{
    engine::Engine,
    model::{
        audit::Operator,
        dead_job::DeadJobResolution,
        error::CancelError,
        graph::Node,
        ids::SagaId,
        kinds::Placement,
        pending_cancel::{IfLate, PendingCancel},
        status::Status,
        transition::{Refusal, State, transition},
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
        decisions::SagaLock,
        inbox::MessageState,
    },
    support::connection::{Blame, blame},
};

/// The effect of a cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelOutcome {
    /// The saga compensates from now on, or had nothing to undo and has ended.
    Compensating,
    /// The cancel is noted: a worker executes a step of the saga, or another transaction holds it. The saga compensates
    /// when that ends, unless it has passed its pivot by then; in that case the observer of its definition is told.
    Requested,
    /// The saga was already compensating.
    AlreadyCompensating,
}

impl Engine {
    /// Makes a saga compensate that has not passed its pivot. It waits for no lock of the saga.
    ///
    /// # Errors
    /// [`CancelError::PastPivot`] and [`CancelError::Ended`] when it is too late; then nothing is changed.
    pub async fn cancel(
        &self,
        saga_id: SagaId,
        by: impl Into<Operator<'_>>,
        reason: &str,
    ) -> Result<CancelOutcome, CancelError> {
        cancel(&self.core, saga_id, &by.into(), reason, IfLate::Tell).await
    }

    /// As [`Engine::cancel`]. But a cancel that is noted, and comes too late, has no effect: no observer is told of it.
    ///
    /// # Errors
    /// As [`Engine::cancel`].
    pub async fn cancel_or_drop(
        &self,
        saga_id: SagaId,
        by: impl Into<Operator<'_>>,
        reason: &str,
    ) -> Result<CancelOutcome, CancelError> {
        cancel(&self.core, saga_id, &by.into(), reason, IfLate::Drop).await
    }
}

async fn cancel(
    core: &Core,
    saga_id: SagaId,
    by: &Operator<'_>,
    reason: &str,
    if_late: IfLate,
) -> Result<CancelOutcome, CancelError> {
    let request = AuditReason { by, action: "cancel", reason };
    let cancel = PendingCancel::new(by.actor, reason, if_late);
    let mut transaction = core.pool.begin().await?;
    let row = match store::decisions::load(&mut transaction, saga_id.0, SagaLock::NoWait).await {
        Ok(row) => row,
        Err(error) if blame(&error) == Blame::Lock => {
            transaction.rollback().await?;
            return note(core, saga_id, &cancel, request).await;
        }
        Err(error) => return Err(error.into()),
    };
    let row = row.ok_or(CancelError::NotFound(saga_id))?;
    let saga = LoadedSaga::new(core, &mut transaction, saga_id, row).await?;
    let (outcome, after) = match effect_of(&cancel, &saga)? {
        CancelEffect::None => return Ok(CancelOutcome::AlreadyCompensating),
        CancelEffect::Compensates(_) | CancelEffect::LeftToOthers if saga.row.leased => {
            store::decisions::request_cancel(&mut transaction, saga_id.0, &cancel).await?;
            record_requested(&mut transaction, &saga, request).await?;
            (CancelOutcome::Requested, CommitEffects::default())
        }
        CancelEffect::LeftToOthers => match send(&mut transaction, &saga, &cancel).await? {
            CancelOutcome::Requested => {
                record_requested(&mut transaction, &saga, request).await?;
                (CancelOutcome::Requested, CommitEffects::default())
            }
            other @ (CancelOutcome::Compensating | CancelOutcome::AlreadyCompensating) => return Ok(other),
        },
        CancelEffect::Compensates(_) if has_pivot_signal(&mut transaction, &saga).await? => {
            store::decisions::request_cancel(&mut transaction, saga_id.0, &cancel).await?;
            record_requested(&mut transaction, &saga, request).await?;
            let signalled = vec![saga_id];
            (CancelOutcome::Requested, CommitEffects { signalled, ..CommitEffects::default() })
        }
        CancelEffect::Compensates(state) => {
            let after = compensate(core, &mut transaction, &saga, state, &cancel, Some(request)).await?;
            (CancelOutcome::Compensating, after)
        }
    };
    transaction.commit().await?;
    // If this process makes its call. Another learns of it when it extends the lease.
    core.calls.cancel((outcome == CancelOutcome::Requested).then_some(saga_id.0));
    effects::publish(core, after);
    Ok(outcome)
}

/// Whether a saga stands at a signal that is its pivot, and that has come: it goes before the cancel.
pub(super) async fn has_pivot_signal(
    conn: &mut PgConnection,
    saga: &LoadedSaga,
) -> Result<bool, sqlx::Error> {
    let node = saga.graph().steps.get(saga.state.step_index);
    match node.filter(|node| node.placement == Placement::Pivot).and_then(Node::signal) {
        Some(name) if saga.row.in_wait && saga.state.status == Status::Running => {
            store::signals::has_unread(conn, saga.saga_id.0, name).await
        }
        Some(_) | None => Ok(false),
    }
}

/// Notes a cancel in the inbox of a saga whose row another transaction holds. What is known of the saga may be older
/// than that transaction, so a cancel that looks possible may turn out to be late.
async fn note(
    core: &Core,
    saga_id: SagaId,
    cancel: &PendingCancel,
    request: AuditReason<'_>,
) -> Result<CancelOutcome, CancelError> {
    let mut transaction = core.pool.begin().await?;
    let row = store::decisions::load(&mut transaction, saga_id.0, SagaLock::Unlocked).await?;
    let row = row.ok_or(CancelError::NotFound(saga_id))?;
    let saga = LoadedSaga::new(core, &mut transaction, saga_id, row).await?;
    match effect_of(cancel, &saga)? {
        CancelEffect::None => return Ok(CancelOutcome::AlreadyCompensating),
        CancelEffect::Compensates(_) | CancelEffect::LeftToOthers => {}
    }
    match send(&mut transaction, &saga, cancel).await? {
        CancelOutcome::Requested => {}
        other @ (CancelOutcome::Compensating | CancelOutcome::AlreadyCompensating) => return Ok(other),
    }
    record_requested(&mut transaction, &saga, request).await?;
    transaction.commit().await?;
    core.calls.cancel([saga_id.0]);
    core.inbox_wakeup.notify_one();
    Ok(CancelOutcome::Requested)
}

/// Stores a cancel in the inbox of a saga. An earlier one may have been delivered already.
async fn send(
    conn: &mut PgConnection,
    saga: &LoadedSaga,
    cancel: &PendingCancel,
) -> Result<CancelOutcome, CancelError> {
    match store::inbox::send_cancel(conn, saga.saga_id.0, cancel).await? {
        MessageState::Unread => Ok(CancelOutcome::Requested),
        MessageState::Consumed => Ok(CancelOutcome::AlreadyCompensating),
        MessageState::TooLate => Err(past_pivot(saga)),
    }
}

/// What a cancel does to a saga.
pub(super) enum CancelEffect {
    /// The saga takes this state.
    Compensates(State),
    /// Nothing: it already compensates.
    None,
    /// Only a process that has the saga's code can tell, or can tell its observer.
    LeftToOthers,
}

/// Decides what a cancel does to a saga; an error if it is too late.
pub(super) fn effect_of(cancel: &PendingCancel, saga: &LoadedSaga) -> Result<CancelEffect, CancelError> {
    let undoes_child = cancel.is_of_parent() && saga.state.status == Status::Completed;
    if saga.row.ended && !undoes_child {
        return Err(CancelError::Ended(saga.state.status));
    }
    if saga.graph.is_unknown() {
        return Ok(CancelEffect::LeftToOthers);
    }
    match transition(saga.graph(), &saga.state, &cancel.event()) {
        Ok((state, _)) if !saga.is_registered() && saga.tells_observer(&state) => {
            Ok(CancelEffect::LeftToOthers)
        }
        Ok((state, _)) => Ok(CancelEffect::Compensates(state)),
        Err(Refusal::AlreadyCompensating) => Ok(CancelEffect::None),
        Err(Refusal::Ended) => Err(CancelError::Ended(saga.state.status)),
        Err(Refusal::PastPivot | Refusal::Impossible) => Err(past_pivot(saga)),
    }
}

fn past_pivot(saga: &LoadedSaga) -> CancelError {
    let pivot = saga.graph().pivot().map(|at| saga.graph().steps[at].name.clone());
    CancelError::PastPivot { pivot: pivot.unwrap_or_else(|| saga.row.step.clone()) }
}

/// Makes a saga compensate that the caller has locked and nobody has leased. It is locked before its dead job: every
/// transaction that locks both does so in this order.
pub(super) async fn compensate(
    core: &Core,
    conn: &mut PgConnection,
    saga: &LoadedSaga,
    state: State,
    cancel: &PendingCancel,
    request: Option<AuditReason<'_>>,
) -> Result<CommitEffects, CancelError> {
    let PendingCancel { actor, reason, .. } = cancel;
    let dead_job_id =
        store::dead_jobs::resolve(conn, saga.saga_id.0, DeadJobResolution::Cancelled, actor, reason).await?;
    if let Some(request) = request {
        let (before, after) = (saga.audit_json(), saga.audit_json_as(&state));
        let entry = AuditEntry { request, saga_id: saga.saga_id, dead_job_id, before, after };
        store::audit::record(conn, &entry).await?;
    }
    let why = format!("cancelled by {actor}: {reason}");
    Ok(saga.apply(core, conn, state, HistoryOutcome::Cancelled, why).await?)
}

async fn record_requested(
    conn: &mut PgConnection,
    saga: &LoadedSaga,
    request: AuditReason<'_>,
) -> Result<(), sqlx::Error> {
    let mut after = saga.audit_json();
    after["cancel_requested"] = true.into();
    let before = saga.audit_json();
    let entry = AuditEntry { request, saga_id: saga.saga_id, dead_job_id: None, before, after };
    store::audit::record(conn, &entry).await
}
