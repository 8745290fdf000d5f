//! Tells the owner of a saga, in the same transaction, that the saga ended, was parked, or was retried.

use std::{future::Future, sync::Arc};

use futures::future::BoxFuture;
use serde_json::value::RawValue;

use crate::{
    definition::tx::Tx,
    model::{dead_job::DeadLettered, error::StepError, ids::SagaId, outcome::Cause, status::Status},
};

/// One saga that changed its status.
#[derive(Clone, Debug)]
pub struct StatusChange {
    /// The saga.
    pub saga_id: SagaId,
    /// Its input as it is stored.
    pub input: Arc<RawValue>,
    /// Its new status: `Completed`, `Compensated`, `Dead`; `Running` or `Compensating` when it was retried.
    pub status: Status,
    /// Why it compensated, if it did.
    pub cause: Option<Cause>,
    /// For a dead one, the last error.
    pub error: Option<String>,
}

/// Keeps rows of the owner in step with the status of its sagas.
pub trait StatusObserver: Send + Sync + 'static {
    /// Is told of changes in the transaction that makes them; an error undoes them all and they are tried again.
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

/// Is told of every saga that is parked, of whatever definition, also of one that this process does not know.
pub trait DeadJobObserver: Send + Sync + 'static {
    /// Is told in the transaction that parks them; an error undoes it, and it is tried again.
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
