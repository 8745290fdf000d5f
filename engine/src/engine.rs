//! The engine: what a process does with sagas.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use tokio::sync::{Notify, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    builder::{EngineBuilder, Settings},
    burial::{ErasedDeadJobObserver, Ttls},
    error::{StartError, StepError},
    faults::SharedFaults,
    feed::{DueHook, Feed, Feeds},
    hold::Holds,
    ids::{SagaId, WorkerId},
    job::{Committed, Job, Performed},
    lane,
    saga::Definition,
    start::{Claiming, NewSaga, Started, start_with},
    starter, store,
    strangers::Strangers,
    trace::TraceLink,
    tx::Tx,
    view::FinalStatus,
    waiters::Waiters,
};

/// Everything that the handles of one engine share.
pub(crate) struct Inner {
    pub(crate) pool: PgPool,
    pub(crate) worker: WorkerId,
    pub(crate) definitions: BTreeMap<String, Arc<Definition>>,
    /// All steps of all definitions, as `definition/step`.
    pub(crate) steps: Vec<String>,
    pub(crate) settings: Settings,
    pub(crate) feeds: Feeds,
    pub(crate) holds: Arc<Holds>,
    pub(crate) waiters: Waiters,
    pub(crate) keeper: Notify,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
    pub(crate) lanes: HashMap<String, lane::Sender>,
    pub(crate) starter: starter::Sender,
    pub(crate) trace_link: Option<Arc<dyn TraceLink>>,
    pub(crate) dead_job_observer: Option<Arc<dyn ErasedDeadJobObserver>>,
    pub(crate) dead_job_ttls: Ttls,
    /// How long archived dead jobs are kept; `None` for ever.
    pub(crate) archive_keep: Option<Duration>,
    pub(crate) strangers: Strangers,
    pub(crate) faults: SharedFaults,
    pub(crate) died: AtomicBool,
}

/// A handle to the engine of this process; clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

impl Engine {
    /// Begins to build an engine on a database that [`crate::migrate`] has been run on.
    pub fn builder(pool: PgPool) -> EngineBuilder {
        EngineBuilder::new(pool)
    }

    /// Starts a saga. It is durable when this returns; concurrent callers share a commit. Its steps join the caller's trace.
    ///
    /// # Errors
    /// See [`StartError`]. On `Unavailable` it is safe to try again with the same id or business key.
    ///
    /// # Cancel safety
    /// A dropped call may still have started the saga.
    pub async fn start(&self, saga: NewSaga) -> Result<Started, StartError> {
        let saga = saga.or_trace(|| self.inner.trace_link.as_ref()?.current());
        let (tell, told) = oneshot::channel();
        self.inner
            .starter
            .send(starter::Request { saga, tell })
            .map_err(|_| StartError::Unavailable("the engine is shutting down".into()))?;
        told.await.map_err(|_| StartError::Unavailable("the engine is shutting down".into()))?
    }

    /// Starts sagas in the caller's transaction: they exist if and only if it commits. Their steps join the caller's trace.
    ///
    /// # Errors
    /// When the transaction's SQL fails; it should then be rolled back. Refusals are told saga by saga.
    pub async fn start_in(
        &self,
        conn: &mut PgConnection,
        sagas: Vec<NewSaga>,
    ) -> Result<Vec<Result<Started, StartError>>, StepError> {
        let current = || self.inner.trace_link.as_ref()?.current();
        let sagas = sagas.into_iter().map(|saga| saga.or_trace(current)).collect();
        let mut tx = Tx::new(conn, &self.inner);
        start_with(&mut tx, sagas, Claiming::Anywhere).await
    }

    /// Starts a saga and waits for its end, but no longer than `patience`; `None` means that it still goes on.
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub async fn start_and_wait(
        &self,
        saga: NewSaga,
        patience: Duration,
    ) -> Result<(Started, Option<FinalStatus>), StartError> {
        let told = self.inner.waiters.wait_for(saga.saga_id());
        let started = self.start(saga).await?;
        if started.existing {
            let ending = self.wait(started.saga_id, patience).await;
            return Ok((started, ending.map_err(|error| StartError::Unavailable(error.to_string()))?));
        }
        let ending = tokio::time::timeout(patience, told).await.ok().and_then(Result::ok);
        Ok((started, ending))
    }

    /// Waits until a saga is completed, compensated or dead, but no longer than `patience`.
    ///
    /// # Errors
    /// When the database is away at the first look; [`sqlx::Error::RowNotFound`] when there is no such saga.
    pub async fn wait(
        &self,
        saga_id: SagaId,
        patience: Duration,
    ) -> Result<Option<FinalStatus>, sqlx::Error> {
        let told = self.inner.waiters.wait_for(saga_id);
        let now =
            store::reads::status_of(&self.inner.pool, saga_id.0).await?.ok_or(sqlx::Error::RowNotFound)?;
        if !now.status.is_active() {
            return Ok(Some(now));
        }
        Ok(tokio::time::timeout(patience, told).await.ok().and_then(Result::ok))
    }

    /// Ends all waits for sagas, those under way and those to come, as if their patience were over: what a process does
    /// that is about to stop. Nothing happens to the sagas.
    pub fn close_waits(&self) {
        self.inner.waiters.end();
    }

    /// The registered definitions, by name.
    pub fn definitions(&self) -> impl Iterator<Item = &Definition> {
        self.inner.definitions.values().map(AsRef::as_ref)
    }

    /// Finds a registered definition.
    pub fn definition(&self, name: &str) -> Option<&Definition> {
        self.inner.definitions.get(name).map(AsRef::as_ref)
    }

    /// Opens the feed of a queue: this process now works on it. One feed a queue and engine.
    pub fn feed(&self, queue: &str, capacity: usize) -> Feed {
        Feed::open(self.inner.clone(), queue, capacity.max(1))
    }

    /// Performs a job: makes the call of a call step, under its time-out, panics caught. For a transaction step there is
    /// nothing to do here; the batch that [`Engine::commit`] joins does it.
    pub async fn perform(&self, job: &Job) -> Performed {
        self.inner.perform(job).await
    }

    /// Commits a job with what performing it came to, together with all others that arrive meanwhile. Returns when that
    /// is durable; if the saga can go on at once, its next job is in its feed by then.
    pub async fn commit(&self, job: Job, performed: Performed) -> Committed {
        self.inner.commit(job, performed).await
    }

    /// Gives a job's claim back without having begun it; [`Feed::closed`] and [`Engine::shutdown`] wait for that.
    pub fn give_back(&self, job: Job) {
        self.inner.hand_back([job]);
    }

    /// Gives up a job that was begun: its attempt stays counted, and a call stays in doubt.
    pub fn give_up(&self, job: Job) {
        self.inner.give_up(job);
    }

    /// Works through a feed until `stop` is cancelled, then closes it and finishes what was handed out: the plain way to
    /// run sagas inside one process.
    pub async fn run(&self, feed: &mut Feed, stop: CancellationToken) {
        let jobs = TaskTracker::new();
        loop {
            let job = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                job = feed.recv() => job,
            };
            let Some(job) = job else { break };
            let inner = self.inner.clone();
            jobs.spawn(async move {
                let performed = inner.perform(&job).await;
                inner.commit(job, performed).await
            });
        }
        feed.close();
        jobs.close();
        jobs.wait().await;
        feed.closed().await;
    }

    /// Claims these sagas, as far as they are due and nobody else has them, for the feeds of this process; gives how
    /// many.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn claim_ids(&self, ids: &[SagaId]) -> Result<usize, sqlx::Error> {
        let ids: Vec<_> = ids.iter().map(|id| id.0).collect();
        let jobs = self.inner.claim(store::claims::Pick::Ids(&ids), ids.len()).await?;
        let claimed = jobs.len();
        for job in jobs {
            self.inner.feeds.give(&self.inner, job);
        }
        Ok(claimed)
    }

    /// Has `hook` told, after the commit, of sagas that became due in a queue: for carrying their ids elsewhere. Sagas
    /// started in a caller's own transaction are not told of; the poll finds them.
    pub fn on_due(&self, queue: &str, hook: DueHook) {
        self.inner.feeds.hook_up(queue, hook);
    }

    /// How many claims this process holds.
    pub fn held(&self) -> usize {
        self.inner.holds.count()
    }

    /// The id under which this process holds leases.
    pub fn worker(&self) -> WorkerId {
        self.inner.worker
    }

    /// The database.
    pub fn pool(&self) -> &PgPool {
        &self.inner.pool
    }

    /// The database's time.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn now(&self) -> Result<DateTime<Utc>, sqlx::Error> {
        store::reads::now(&self.inner.pool).await
    }

    /// Stops the engine's tasks once they have finished what they hold, and gives back all claims that can be given back.
    /// Close the feeds and let their workers finish first. It takes no longer than two leases: by then what could not be
    /// committed is lost to others.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        let patience = self.inner.settings.lease * 2;
        if tokio::time::timeout(patience, self.inner.tasks.wait()).await.is_err() {
            tracing::warn!("stopping without the last commits: the database gives no answer");
        }
        self.inner.flush_releases().await;
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("worker", &self.inner.worker).finish_non_exhaustive()
    }
}
