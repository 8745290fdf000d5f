//! Observers: code of a saga's owner that runs in the transaction in which the saga ends, dies or is retried.

use std::{future::Future, sync::Arc};

use futures::future::BoxFuture;
use serde_json::value::RawValue;

use crate::{
    definition::tx::Tx,
    model::{cause::Cause, dead_job::DeadLettered, error::StepError, ids::SagaId, status::Status},
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
    /// What the saga gave, as JSON, if it completed and its definition gives a result.
    pub result: Option<Arc<RawValue>>,
    /// The last error, if the saga is dead.
    pub error: Option<String>,
}

/// A cancel that was accepted, and that its saga could not follow any more.
#[derive(Clone, Debug)]
pub struct LateCancel {
    /// The saga that goes on, or has ended.
    pub saga_id: SagaId,
    /// The saga's input, as stored.
    pub input: Arc<RawValue>,
    /// The saga's status now.
    pub status: Status,
    /// Who cancelled.
    pub actor: String,
    /// The reason that they gave.
    pub reason: String,
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

    /// Called with cancels that were accepted while another transaction held their sagas, or a worker a step of them,
    /// and that came too late: a saga has passed its pivot, or has ended. The owner can do now what the cancel was
    /// meant to do, such as start a saga that reverses this one. Does nothing by default.
    ///
    /// It is called in the transaction in which that is noticed, at most once for each saga unless it fails. An error
    /// rolls the transaction back, and the engine tries it again.
    ///
    /// # Errors
    /// When its SQL fails.
    fn cancelled_too_late(
        &self,
        _tx: &mut Tx<'_>,
        _late: &[LateCancel],
    ) -> impl Future<Output = Result<(), StepError>> + Send {
        std::future::ready(Ok(()))
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

/// Declares a form of an observer whose type is erased: its methods return boxed futures.
macro_rules! erased {
    ($erased:ident of $observer:ident { $($method:ident: $changes:ty),+ }) => {
        pub(crate) trait $erased: Send + Sync {
            $(fn $method<'a>(
                &'a self,
                tx: &'a mut Tx<'_>,
                changes: &'a [$changes],
            ) -> BoxFuture<'a, Result<(), StepError>>;)+
        }

        impl<O: $observer> $erased for O {
            $(fn $method<'a>(
                &'a self,
                tx: &'a mut Tx<'_>,
                changes: &'a [$changes],
            ) -> BoxFuture<'a, Result<(), StepError>> {
                Box::pin($observer::$method(self, tx, changes))
            })+
        }
    };
}

erased!(ErasedStatusObserver of StatusObserver { status_changed: StatusChange, cancelled_too_late: LateCancel });
erased!(ErasedDeadJobObserver of DeadJobObserver { dead_lettered: DeadLettered });
