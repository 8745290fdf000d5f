//! What happens when a saga is parked: its dead job is filed with a time to live, and whoever wants to know is told, all
//! in the transaction that parks it.

use std::{collections::BTreeMap, future::Future, pin::Pin, time::Duration};

use sqlx::Connection;
use uuid::Uuid;

use crate::{
    error::StepError,
    guard,
    ids::{DeadJobId, SagaId},
    status::Direction,
    store,
    tx::Tx,
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
        deaths: &[DeadLettered],
    ) -> impl Future<Output = Result<(), StepError>> + Send;
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

pub(crate) trait ErasedDeadJobObserver: Send + Sync {
    fn dead_lettered<'a>(
        &'a self,
        tx: &'a mut Tx<'_>,
        deaths: &'a [DeadLettered],
    ) -> BoxFuture<'a, Result<(), StepError>>;
}

impl<W: DeadJobObserver> ErasedDeadJobObserver for W {
    fn dead_lettered<'a>(
        &'a self,
        tx: &'a mut Tx<'_>,
        deaths: &'a [DeadLettered],
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(DeadJobObserver::dead_lettered(self, tx, deaths))
    }
}

/// How long dead jobs wait for a person; `None` for ever.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ttls {
    pub(crate) usual: Option<Duration>,
    pub(crate) by_definition: BTreeMap<String, Option<Duration>>,
}

/// Whether a saga may be parked without the dead-job observer, should that fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rites {
    Due,
    /// The outcome of these sagas could not be written: perhaps by the observer's own fault, so it can't be insisted on.
    IfPossible,
}

/// Files a dead job for each of these sagas, which were parked in this transaction, and tells the dead-job observer.
pub(crate) async fn bury(tx: &mut Tx<'_>, dead: &[Uuid], rites: Rites) -> Result<(), StepError> {
    if dead.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = dead.iter().map(|_| Uuid::now_v7()).collect();
    let engine = tx.engine;
    let deaths = store::dead_jobs::file(tx, &ids, dead, &engine.dead_job_ttls).await?;
    match rites {
        Rites::Due => tell(tx, &deaths).await,
        Rites::IfPossible => {
            let mut savepoint = tx.conn.begin().await?;
            let mut inside = Tx::new(&mut savepoint, engine);
            match tell(&mut inside, &deaths).await {
                Ok(()) => {
                    let after = std::mem::take(&mut inside.after);
                    savepoint.commit().await?;
                    tx.after.take_in(after);
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

async fn tell(tx: &mut Tx<'_>, deaths: &[DeadLettered]) -> Result<(), StepError> {
    let engine = tx.engine;
    let Some(watch) = &engine.dead_job_observer else { return Ok(()) };
    match guard::guarded(engine.settings.turn(), watch.dead_lettered(tx, deaths)).await {
        Ok(told) => told,
        Err(broken) => {
            tx.course.midway = true;
            Err(StepError::Other(format!("the dead-job observer {broken}")))
        }
    }
}
