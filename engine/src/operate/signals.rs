//! Signals from callers, and the end of waits by operators.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::{
    engine::Engine,
    model::{
        audit::{Operator, SIGNAL, SKIP_WAIT},
        ids::SagaId,
        signal::{Signal, SignalError, SignalReceipt, SignalState, SignalTarget},
    },
    runtime::{
        effects::{self, CommitEffects},
        send_signal,
    },
    store::{
        self,
        audit::{AuditEntry, AuditReason},
    },
    support::connection::{Blame, blame},
};

/// A wait that an operator ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedWait {
    /// The step that waited.
    pub step: String,
    /// When the wait would have ended.
    pub until: Option<DateTime<Utc>>,
}

/// Why a wait can't be ended.
#[derive(Debug, thiserror::Error)]
pub enum SkipWaitError {
    /// There is no such saga.
    #[error("there is no saga {0}")]
    NotFound(SagaId),
    /// The saga waits for no time and no signal; it may just be leaving its wait.
    #[error("the saga does not wait at `{step}`")]
    NotWaiting {
        /// The step at which it is.
        step: String,
    },
    /// Another transaction or a worker holds the saga.
    #[error("another transaction or a worker holds the saga; try again")]
    Busy,
    /// The database refused a statement or can't be reached.
    #[error("the database refused")]
    Database(#[from] sqlx::Error),
}

impl Engine {
    /// Sends a signal to a saga. It is durable when this returns, and waits for no lock of the saga: a wait takes it at
    /// once, or when the saga comes to it.
    ///
    /// The answer is what is known at that moment. A saga that ends meanwhile leaves the signal too late.
    ///
    /// # Errors
    /// See [`SignalError`].
    ///
    /// # Cancel safety
    /// If the future is dropped, the signal may have been stored nevertheless. With a [key](Signal::key) it is safe to send
    /// it again.
    pub async fn signal(
        &self,
        target: impl Into<SignalTarget>,
        signal: Signal,
    ) -> Result<SignalReceipt, SignalError> {
        self.send(&target.into(), &signal, None).await
    }

    /// As [`Engine::signal`], for a person: the signal and its audit record are one transaction. The record names the signal
    /// and its key, but not its message.
    ///
    /// # Errors
    /// As [`Engine::signal`].
    pub async fn signal_as(
        &self,
        target: impl Into<SignalTarget>,
        signal: Signal,
        by: impl Into<Operator<'_>>,
    ) -> Result<SignalReceipt, SignalError> {
        let by = by.into();
        let signal = Signal { sender: Some(signal.sender.unwrap_or_else(|| by.actor.to_owned())), ..signal };
        self.send(&target.into(), &signal, Some(&by)).await
    }

    async fn send(
        &self,
        target: &SignalTarget,
        signal: &Signal,
        by: Option<&Operator<'_>>,
    ) -> Result<SignalReceipt, SignalError> {
        let mut transaction = self.pool().begin().await?;
        let receipt = send_signal::send(&self.core, &mut transaction, target, signal).await?;
        if let Some(by) = by.filter(|_| !receipt.replayed) {
            let entry = AuditEntry {
                request: AuditReason { by, action: SIGNAL, reason: &signal.name },
                saga_id: receipt.saga_id,
                dead_job_id: None,
                before: Value::Null,
                after: json!({"signal": signal.name, "key": signal.key, "state": receipt.state.name()}),
            };
            store::audit::record(&mut transaction, &entry).await?;
        }
        transaction.commit().await?;
        if receipt.state == SignalState::Buffered {
            self.core.nudges.add([receipt.saga_id.0]);
        }
        Ok(receipt)
    }

    /// Sends a signal in the caller's transaction: it exists if and only if that commits.
    ///
    /// # Errors
    /// As [`Engine::signal`]. On [`SignalError::Database`] the caller should roll the transaction back.
    pub async fn signal_in(
        &self,
        conn: &mut PgConnection,
        target: impl Into<SignalTarget>,
        signal: Signal,
    ) -> Result<SignalReceipt, SignalError> {
        let receipt = send_signal::send(&self.core, conn, &target.into(), &signal).await?;
        if receipt.state == SignalState::Buffered {
            store::hints::notify_signalled_at_commit(conn, receipt.saga_id.0).await?;
        }
        Ok(receipt)
    }

    /// Ends the wait of a saga as if its time were over: a sleep is done, and a signal has timed out. The change and its
    /// audit record are one transaction.
    ///
    /// # Errors
    /// See [`SkipWaitError`].
    pub async fn skip_wait(
        &self,
        saga_id: SagaId,
        by: impl Into<Operator<'_>>,
        reason: &str,
    ) -> Result<SkippedWait, SkipWaitError> {
        let by = by.into();
        let mut transaction = self.pool().begin().await?;
        let skipped = match store::signals::skip_wait(&mut transaction, saga_id.0).await {
            Ok(Some(skipped)) => skipped,
            Ok(None) => {
                transaction.rollback().await?;
                let saga = self.saga(saga_id).await?.ok_or(SkipWaitError::NotFound(saga_id))?;
                // A worker that looks in vain gives it back to its wait.
                let is_looked_at = saga.wait_until.is_some() && saga.lease_owner.is_some();
                let busy = is_looked_at.then_some(SkipWaitError::Busy);
                return Err(busy.unwrap_or(SkipWaitError::NotWaiting { step: saga.step }));
            }
            Err(error) if blame(&error) == Blame::Lock => return Err(SkipWaitError::Busy),
            Err(error) => return Err(error.into()),
        };
        let before = json!({
            "status": "running", "step": skipped.step, "direction": "action", "waits_for": skipped.waits_for,
            "wait_until": skipped.wait_until,
        });
        let entry = AuditEntry {
            request: AuditReason { by: &by, action: SKIP_WAIT, reason },
            saga_id,
            dead_job_id: None,
            before,
            after: json!({"status": "running", "step": skipped.step, "direction": "action"}),
        };
        store::audit::record(&mut transaction, &entry).await?;
        transaction.commit().await?;
        let mut after = CommitEffects::default();
        after.due.entry(skipped.queue).or_default().push(saga_id);
        effects::publish(&self.core, after);
        Ok(SkippedWait { step: skipped.step, until: skipped.wait_until })
    }
}
