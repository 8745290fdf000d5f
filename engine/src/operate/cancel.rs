//! What people do to sagas: cancel, retry, discard. Every change is one transaction with its audit row.

use serde_json::Value;
use sqlx::PgConnection;

use crate::{
    definition::tx::CommitEffects,
    engine::{Core, Engine},
    model::{
        error::CancelError,
        ids::SagaId,
        transition::{Event, Refusal, transition},
        views::HistoryOutcome,
    },
    store::{
        self,
        audit::{AuditEntry, AuditReason},
    },
};

use crate::operate::decision::LockedSaga;

/// Who acts on sagas.
#[derive(Clone, Debug, PartialEq)]
pub struct Operator<'a> {
    /// Their name, for histories, causes and audits.
    pub actor: &'a str,
    /// What the caller knows of how they came in, such as their key and address; the audit keeps it as it is.
    pub context: Option<Value>,
}

/// Somebody of whom only the name is known.
impl<'a> From<&'a str> for Operator<'a> {
    fn from(actor: &'a str) -> Self {
        Self { actor, context: None }
    }
}

/// What a cancel did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelOutcome {
    /// The saga compensates from now on (or had nothing to undo and has ended).
    Compensating,
    /// A worker is in the middle of a step; the saga compensates when that ends, unless it passes its pivot by then.
    Requested,
    /// It was compensating already.
    AlreadyCompensating,
}

impl Engine {
    /// Makes a saga compensate that has not passed its pivot.
    ///
    /// # Errors
    /// [`CancelError::PastPivot`] and [`CancelError::Ended`] when it is too late; nothing is changed then.
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
        self.core.publish_effects(after);
        Ok(answer)
    }
}

/// Locks a saga without its dead job; and a dead job always after its saga.
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
    let subject = LockedSaga::new(core, saga_id, row)?;
    if subject.row.ended {
        return Err(CancelError::Ended(subject.state.status));
    }
    let event = Event::Cancel { actor: by.actor.into(), reason: reason.into() };
    let state = match transition(subject.graph(), &subject.state, &event) {
        Ok((state, _)) => state,
        Err(Refusal::AlreadyCompensating) => {
            return Ok((CancelOutcome::AlreadyCompensating, CommitEffects::default()));
        }
        Err(Refusal::Ended) => return Err(CancelError::Ended(subject.state.status)),
        Err(Refusal::PastPivot | Refusal::Impossible) => {
            let pivot = subject.graph().pivot().map(|at| subject.graph().steps[at].name.clone());
            return Err(CancelError::PastPivot { pivot: pivot.unwrap_or_else(|| subject.row.step.clone()) });
        }
    };
    let said = AuditReason { by, action: "cancel", reason };
    if subject.row.leased {
        let request = serde_json::json!({ "actor": by.actor, "reason": reason });
        store::commits::request_cancel(conn, saga_id.0, &request).await?;
        let mut after = subject.shown();
        after["cancel_requested"] = true.into();
        let audit = AuditEntry { said, saga_id, dead_job_id: None, before: subject.shown(), after };
        store::audit::record(conn, &audit).await?;
        return Ok((CancelOutcome::Requested, CommitEffects::default()));
    }
    let dead_job_id = store::dead_jobs::resolve(conn, saga_id.0, "cancelled", by.actor, reason).await?;
    let (before, after) = (subject.shown(), subject.shown_as(&state));
    store::audit::record(conn, &AuditEntry { said, saga_id, dead_job_id, before, after }).await?;
    let why = format!("cancelled by {}: {reason}", by.actor);
    let after = subject.decide(core, conn, state, HistoryOutcome::Cancelled, why).await?;
    Ok((CancelOutcome::Compensating, after))
}
