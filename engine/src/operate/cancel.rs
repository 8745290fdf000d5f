//! Cancels sagas. The cancel and its audit record are one transaction.

use sqlx::PgConnection;

use crate::{
    engine::Engine,
    model::{
        audit::Operator,
        error::CancelError,
        ids::SagaId,
        outcome::CancelOrigin,
        transition::{Event, Refusal, transition},
        views::HistoryOutcome,
    },
    operate::decision::LockedSaga,
    runtime::{
        core::Core,
        effects::{self, CommitEffects},
    },
    store::{
        self,
        audit::{AuditEntry, AuditReason},
    },
};

/// The effect of a cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelOutcome {
    /// The saga compensates from now on, or had nothing to undo and has ended.
    Compensating,
    /// A worker is executing a step; the saga compensates when that step ends, unless it passes its pivot by then.
    Requested,
    /// The saga was already compensating.
    AlreadyCompensating,
}

impl Engine {
    /// Makes a saga compensate that has not passed its pivot.
    ///
    /// # Errors
    /// [`CancelError::PastPivot`] and [`CancelError::Ended`] when it is too late; then nothing is changed.
    pub async fn cancel(
        &self,
        saga_id: SagaId,
        by: impl Into<Operator<'_>>,
        reason: &str,
    ) -> Result<CancelOutcome, CancelError> {
        let by = by.into();
        let mut transaction = self.core.pool.begin().await?;
        let (answer, after) = cancel(&self.core, &mut transaction, saga_id, &by, reason).await?;
        transaction.commit().await?;
        effects::publish(&self.core, after);
        Ok(answer)
    }
}

/// Locks the saga before its dead job. Every transaction that locks both does so in this order.
async fn cancel(
    core: &Core,
    conn: &mut PgConnection,
    saga_id: SagaId,
    by: &Operator<'_>,
    reason: &str,
) -> Result<(CancelOutcome, CommitEffects), CancelError> {
    let Some(row) = store::commits::lock(conn, saga_id.0).await? else {
        return Err(CancelError::NotFound(saga_id));
    };
    let saga = LockedSaga::new(core, saga_id, row)?;
    if saga.row.ended {
        return Err(CancelError::Ended(saga.state.status));
    }
    let event =
        Event::Cancel { actor: by.actor.into(), reason: reason.into(), origin: CancelOrigin::Requested };
    let state = match transition(saga.graph(), &saga.state, &event) {
        Ok((state, _)) => state,
        Err(Refusal::AlreadyCompensating) => {
            return Ok((CancelOutcome::AlreadyCompensating, CommitEffects::default()));
        }
        Err(Refusal::Ended) => return Err(CancelError::Ended(saga.state.status)),
        Err(Refusal::PastPivot | Refusal::Impossible) => {
            let pivot = saga.graph().pivot().map(|at| saga.graph().steps[at].name.clone());
            return Err(CancelError::PastPivot { pivot: pivot.unwrap_or_else(|| saga.row.step.clone()) });
        }
    };
    let request = AuditReason { by, action: "cancel", reason };
    if saga.row.leased {
        let stored = serde_json::json!({ "actor": by.actor, "reason": reason });
        store::commits::request_cancel(conn, saga_id.0, &stored).await?;
        let mut after = saga.audit_json();
        after["cancel_requested"] = true.into();
        let audit = AuditEntry { request, saga_id, dead_job_id: None, before: saga.audit_json(), after };
        store::audit::record(conn, &audit).await?;
        return Ok((CancelOutcome::Requested, CommitEffects::default()));
    }
    let dead_job_id = store::dead_jobs::resolve(conn, saga_id.0, "cancelled", by.actor, reason).await?;
    let (before, after) = (saga.audit_json(), saga.audit_json_as(&state));
    store::audit::record(conn, &AuditEntry { request, saga_id, dead_job_id, before, after }).await?;
    let why = format!("cancelled by {}: {reason}", by.actor);
    let after = saga.apply(core, conn, state, HistoryOutcome::Cancelled, why).await?;
    Ok((CancelOutcome::Compensating, after))
}
