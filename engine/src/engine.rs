//! The engine: definitions, the database, and the tasks that belong to them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    burial::{DeathWatch, ErasedDeathWatch, Ttls},
    error::{BuildError, GraphError, StartError, StepSetError},
    expiry,
    faults::SharedFaults,
    feed::{DueHook, Feed, Feeds},
    hold::Holds,
    ids::{SagaId, WorkerId},
    job::{Committed, Job, Performed},
    keeper, lane,
    saga::Definition,
    start::{Claiming, NewSaga, Started, start_with},
    starter, store,
    trace::TraceLink,
    tx::Tx,
    view::Ending,
    waiters::{self, Waiters},
};

/// How the engine behaves; the defaults suit production.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) lease: Duration,
    pub(crate) max_set: usize,
    pub(crate) poll: Duration,
    /// How long overdue a saga must be that this process does not know, until it claims and parks it.
    pub(crate) unknown_patience: Duration,
}

impl Settings {
    /// How long one set of several sagas may run in a transaction. Its leases are not extended meanwhile, and must
    /// outlast the trouble that it may end in.
    pub(crate) fn turn(&self) -> Duration {
        (self.lease / 4).max(Duration::from_secs(2))
    }

    /// How long upkeep waits for the database's answer before it takes the connection for dead.
    pub(crate) fn upkeep(&self) -> Duration {
        (self.lease / 3).clamp(Duration::from_secs(1), Duration::from_secs(10))
    }
}

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
    pub(crate) death_watch: Option<Arc<dyn ErasedDeathWatch>>,
    pub(crate) dead_job_ttls: Ttls,
    pub(crate) faults: SharedFaults,
    pub(crate) died: AtomicBool,
}

/// A handle to the engine of this process; clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

/// Collects what an [`Engine`] needs.
pub struct EngineBuilder {
    pool: PgPool,
    definitions: Vec<Definition>,
    settings: Settings,
    trace_link: Option<Arc<dyn TraceLink>>,
    death_watch: Option<Arc<dyn ErasedDeathWatch>>,
    dead_job_ttls: Ttls,
    faults: SharedFaults,
}

impl EngineBuilder {
    /// Registers a saga.
    pub fn register(mut self, definition: Definition) -> Self {
        self.definitions.push(definition);
        self
    }

    /// Sets how long a claim lasts without being extended, and so how late the work of a dead process is taken over at
    /// the most; ten seconds unless set.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease;
        self
    }

    /// Sets how many sagas share a transaction at the most; 256 unless set.
    pub fn max_set(mut self, max_set: usize) -> Self {
        self.settings.max_set = max_set.max(1);
        self
    }

    /// Sets how often, about, each queue is looked at without any hint; half a second unless set.
    pub fn poll(mut self, poll: Duration) -> Self {
        self.settings.poll = poll;
        self
    }

    /// Sets how long overdue a saga must be whose definition or step this process does not know, until it claims and parks
    /// it; five minutes unless set. Until then it is left to processes that know it, as in a rolling deployment.
    pub fn unknown_patience(mut self, patience: Duration) -> Self {
        self.settings.unknown_patience = patience;
        self
    }

    /// Joins the steps to the traces of those who started the sagas.
    pub fn trace_link(mut self, link: Arc<dyn TraceLink>) -> Self {
        self.trace_link = Some(link);
        self
    }

    /// Has `watch` told, in the same transaction, of every saga that is parked as a dead job.
    pub fn death_watch(mut self, watch: impl DeathWatch) -> Self {
        self.death_watch = Some(Arc::new(watch));
        self
    }

    /// Sets how long dead jobs wait for a person before they are archived and their sagas end as they are; for ever unless
    /// set. It holds for those parked from then on.
    pub fn dead_job_ttl(mut self, ttl: impl Into<Option<Duration>>) -> Self {
        self.dead_job_ttls.usual = ttl.into();
        self
    }

    /// As [`EngineBuilder::dead_job_ttl`], for the sagas of one definition; `None` is for ever.
    pub fn dead_job_ttl_of(
        mut self,
        definition: impl Into<String>,
        ttl: impl Into<Option<Duration>>,
    ) -> Self {
        self.dead_job_ttls.by_definition.insert(definition.into(), ttl.into());
        self
    }

    pub(crate) fn faults(mut self, faults: SharedFaults) -> Self {
        self.faults = faults;
        self
    }

    /// Makes the engine and starts its group-commit tasks; call it inside a tokio runtime.
    ///
    /// # Errors
    /// When two definitions share a name, or a time to live is set for one that is not registered.
    pub fn build(self) -> Result<Engine, BuildError> {
        let mut definitions = BTreeMap::new();
        let (mut lanes, mut arrivals) = (HashMap::new(), Vec::new());
        for definition in self.definitions {
            let name = definition.graph.name.clone();
            let (sender, receiver) = mpsc::unbounded_channel();
            lanes.insert(name.clone(), sender);
            arrivals.push(receiver);
            if definitions.insert(name.clone(), Arc::new(definition)).is_some() {
                return Err(GraphError::SagaTwice(name).into());
            }
        }
        if let Some(stranger) =
            self.dead_job_ttls.by_definition.keys().find(|name| !definitions.contains_key(*name))
        {
            return Err(BuildError::NoSuchSaga(stranger.clone()));
        }
        // Sagas that this process does not know share a lane, where they are postponed or parked.
        let (sender, receiver) = mpsc::unbounded_channel();
        lanes.insert(String::new(), sender);
        arrivals.push(receiver);
        let (starter, starts) = starter::channel();
        let inner = Arc::new(Inner {
            pool: self.pool,
            worker: WorkerId::fresh(),
            steps: steps(&definitions),
            definitions,
            settings: self.settings,
            feeds: Feeds::default(),
            holds: Arc::default(),
            waiters: Waiters::default(),
            keeper: Notify::new(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            lanes,
            starter,
            trace_link: self.trace_link,
            death_watch: self.death_watch,
            dead_job_ttls: self.dead_job_ttls,
            faults: self.faults,
            died: AtomicBool::new(false),
        });
        for receiver in arrivals {
            inner.tasks.spawn(lane::run(inner.clone(), receiver));
        }
        inner.tasks.spawn(starter::run(inner.clone(), starts));
        inner.supervise("keeping claims", keeper::keep);
        inner.supervise("listening", keeper::listen);
        inner.supervise("watching for ends", waiters::watch_elsewhere);
        inner.supervise("archiving dead jobs", expiry::watch);
        Ok(Engine { inner })
    }
}

fn steps(definitions: &BTreeMap<String, Arc<Definition>>) -> Vec<String> {
    let names = definitions.values().flat_map(|definition| {
        let steps = definition.graph.steps.iter();
        steps.map(|node| format!("{}/{}", definition.graph.name, node.name))
    });
    names.collect()
}

impl Engine {
    /// Begins to build an engine on a database that [`crate::migrate`] has been run on.
    pub fn builder(pool: PgPool) -> EngineBuilder {
        EngineBuilder {
            pool,
            definitions: Vec::new(),
            settings: Settings {
                lease: Duration::from_secs(10),
                max_set: 256,
                poll: Duration::from_millis(500),
                unknown_patience: Duration::from_mins(5),
            },
            trace_link: None,
            death_watch: None,
            dead_job_ttls: Ttls::default(),
            faults: None,
        }
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
    ) -> Result<Vec<Result<Started, StartError>>, StepSetError> {
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
    ) -> Result<(Started, Option<Ending>), StartError> {
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
    pub async fn wait(&self, saga_id: SagaId, patience: Duration) -> Result<Option<Ending>, sqlx::Error> {
        let told = self.inner.waiters.wait_for(saga_id);
        let now =
            store::reads::status_of(&self.inner.pool, saga_id.0).await?.ok_or(sqlx::Error::RowNotFound)?;
        if !now.status.moves() {
            return Ok(Some(now));
        }
        Ok(tokio::time::timeout(patience, told).await.ok().and_then(Result::ok))
    }

    /// Ends all waits for sagas, those under way and those to come, as if their patience were over: what a process does
    /// that is about to stop. Nothing happens to the sagas.
    pub fn end_waits(&self) {
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
    /// nothing to do here; the set that [`Engine::commit`] joins does it.
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

impl std::fmt::Debug for EngineBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineBuilder").field("settings", &self.settings).finish_non_exhaustive()
    }
}
