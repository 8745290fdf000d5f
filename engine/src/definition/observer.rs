//! Observers: code of a saga's owner that runs in the transaction in which the saga ends, dies or is retried.

use std::{future::Future, sync::Arc};

use futures::future::BoxFuture;
use serde_json::value::RawValue;

use crate::{
    definition::tx::Tx,
    model::{dead_job::DeadLettered, error::StepError, ids::SagaId, outcome::Cause, status::Status},
};

/// A change of one saga's status.
#[derive(Clone, Debug)]
pub struct StatusChange {
    /// The saga whose status changed.
    pub saga_id: SagaId,
    /// The saga's input, as stored.
    pub input: Arc<RawValue>,
    /// The new status: `Completed`, `Compensated` or `Dead`; after a retry of its dead job, `Running` or
    /// `Compensating`.
    pub status: Status,
    /// Why the saga compensated, if it did.
    pub cause: Option<Cause>,
    /// The last error, if the saga is dead.
    pub error: Option<String>,
}

/// Keeps the owner's rows consistent with the status of its sagas.
pub trait StatusObserver: Send + Sync + 'static {
    /// Called in the transaction that changes the sagas. An error rolls the transaction back, and the engine tries it
    /// again.
    ///
    /// # Errors
    /// When its SQL fails.
    fn status_changed(
        &self,
        tx: &mut Tx<'_>,
        changes: &[StatusChange],
    ) -> impl Future<Output = Result<(), StepError>> + Send;
}

pub(crate) trait ErasedStatusObserver: Send + Sync {
    fn status_changed<'a>(
        &'a self,
        tx: &'a mut Tx<'_>,
        changes: &'a [StatusChange],
    ) -> BoxFuture<'a, Result<(), StepError>>;
}

impl<W: StatusObserver> ErasedStatusObserver for W {
    fn status_changed<'a>(
        &'a self,
        tx: &'a mut Tx<'_>,
        changes: &'a [StatusChange],
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(StatusObserver::status_changed(self, tx, changes))
    }
}

/// Called for every saga that is dead-lettered, whatever its definition, even if this process does not know it.
pub trait DeadJobObserver: Send + Sync + 'static {
    /// Called in the transaction that dead-letters the sagas. An error rolls the transaction back, and the engine tries
    /// it again.
    ///
    /// # Errors
    /// When its SQL fails.
    fn dead_lettered(
        &self,
        tx: &mut Tx<'_>,
        dead_lettered: &[DeadLettered],
    ) -> impl Future<Output = Result<(), StepError>> + Send;
}

pub(crate) trait ErasedDeadJobObserver: Send + Sync {
    fn dead_lettered<'a>(
        &'a self,
        tx: &'a mut Tx<'_>,
        dead_lettered: &'a [DeadLettered],
    ) -> BoxFuture<'a, Result<(), StepError>>;
}

impl<W: DeadJobObserver> ErasedDeadJobObserver for W {
    fn dead_lettered<'a>(
        &'a self,
        tx: &'a mut Tx<'_>,
        dead_lettered: &'a [DeadLettered],
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(DeadJobObserver::dead_lettered(self, tx, dead_lettered))
    }
}
