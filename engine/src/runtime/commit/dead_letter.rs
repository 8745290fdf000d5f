//! What happens when a saga is parked: its dead job is filed with a time to live, and whoever wants to know is told, all
//! in the transaction that parks it.

use std::{collections::BTreeMap, future::Future, pin::Pin, time::Duration};

use sqlx::Connection;
use uuid::Uuid;

use crate::{
    definition::tx::Tx,
    model::{
        error::StepError,
        ids::{DeadJobId, SagaId},
        status::Direction,
    },
    store,
    support::user_code,
};

/// A saga that was parked for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLettered {
    /// Its dead job.
    pub dead_job_id: DeadJobId,
    /// The saga.
    pub saga_id: SagaId,
    /// The definition's name.
    pub definition: String,
    /// Its queue.
    pub queue: String,
    /// The step that it stands at.
    pub step: String,
    /// The side of the step.
    pub direction: Direction,
    /// How many attempts the step had.
    pub attempts: u32,
    /// The last error, one sentence.
    pub error: String,
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

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

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

/// How long dead jobs wait for a person; `None` for ever.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeadJobTtls {
    pub(crate) default: Option<Duration>,
    pub(crate) by_definition: BTreeMap<String, Option<Duration>>,
}

/// What a failing dead-job observer does to the transaction: [`Notice::Required`] aborts it, [`Notice::BestEffort`] is
/// logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    Required,
    /// The outcome of these sagas could not be written: perhaps by the observer's own fault, so it can't be insisted on.
    BestEffort,
}

/// Files a dead job for each of these sagas, which were parked in this transaction, and tells the dead-job observer.
pub(crate) async fn dead_letter(tx: &mut Tx<'_>, dead: &[Uuid], notice: Notice) -> Result<(), StepError> {
    if dead.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = dead.iter().map(|_| Uuid::now_v7()).collect();
    let core = tx.core;
    let dead_lettered = store::dead_jobs::file(tx, &ids, dead, &core.dead_job_ttls).await?;
    match notice {
        Notice::Required => notify(tx, &dead_lettered).await,
        Notice::BestEffort => {
            let mut savepoint = tx.conn.begin().await?;
            let mut inside = Tx::new(&mut savepoint, core);
            match notify(&mut inside, &dead_lettered).await {
                Ok(()) => {
                    let after = std::mem::take(&mut inside.after);
                    savepoint.commit().await?;
                    tx.after.merge(after);
                }
                Err(error) => {
                    savepoint.rollback().await?;
                    tracing::error!(error = %error, "the dead-job observer could not be told of sagas parked");
                }
            }
            Ok(())
        }
    }
}

async fn notify(tx: &mut Tx<'_>, dead_lettered: &[DeadLettered]) -> Result<(), StepError> {
    let core = tx.core;
    let Some(observer) = &core.dead_job_observer else { return Ok(()) };
    match user_code::run_user_code(
        core.settings.batch_time_limit(),
        observer.dead_lettered(tx, dead_lettered),
    )
    .await
    {
        Ok(notified) => notified,
        Err(broken) => {
            tx.course.cancelled_mid_statement = true;
            Err(StepError::Other(format!("the dead-job observer {broken}")))
        }
    }
}
