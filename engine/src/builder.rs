//! Builds an engine from definitions and settings, and starts its background tasks.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock, atomic::AtomicU64},
    time::Duration,
};

use sqlx::PgPool;
use tokio::sync::{Notify, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    definition::{
        observer::{DeadJobObserver, ErasedDeadJobObserver},
        saga::Definition,
    },
    engine::Engine,
    model::{dead_job::DeadJobTtls, error::BuildError, ids::WorkerId, retention::Retention},
    operate::{dead_jobs::requests, expiry, inbox},
    runtime::{
        calls::Calls,
        commit::group_commit,
        core::Core,
        definition_trees,
        definitions::Definitions,
        graphs::Graphs,
        hints::Hints,
        leases::LeaseTable,
        nudges::Nudges,
        quarantine::Quarantine,
        queue::feeds::Feeds,
        remote_ends::RemoteEnds,
        settings::{SHORTEST_LEASE, Settings},
        start::batcher,
        tasks::{
            end_poll, forgotten_signals, heartbeat, hint_listener, hint_sender, lease_keeper, nudge,
            progress_writer, sweep,
        },
        waiters::Waiters,
    },
    support::{faults::FaultHooks, metrics::register_zero_counters, trace_propagator::TracePropagator},
};

impl Engine {
    /// Starts building an engine on a database whose schema [`crate::migrate`] has created.
    pub fn builder(pool: PgPool) -> EngineBuilder {
        EngineBuilder::new(pool)
    }
}

const DEFAULT_MAX_PAYLOAD: usize = 256 * 1024;

/// Collects what an [`Engine`] needs.
pub struct EngineBuilder {
    pool: PgPool,
    definitions: Vec<Definition>,
    earlier: Vec<Definition>,
    settings: Settings,
    trace_propagator: Option<Arc<dyn TracePropagator>>,
    dead_job_observer: Option<Arc<dyn ErasedDeadJobObserver>>,
    dead_job_ttls: DeadJobTtls,
    archive_retention: Option<Duration>,
    retention: Retention,
    faults: FaultHooks,
}

impl EngineBuilder {
    pub(crate) fn new(pool: PgPool) -> Self {
        Self {
            pool,
            definitions: Vec::new(),
            earlier: Vec::new(),
            settings: Settings {
                lease: Duration::from_secs(10),
                max_batch: 256,
                poll: Duration::from_millis(500),
                end_poll: Duration::from_millis(50),
                unknown_grace: Duration::from_secs(30),
                sweep: Duration::from_mins(1),
                max_payload: DEFAULT_MAX_PAYLOAD,
            },
            trace_propagator: None,
            dead_job_observer: None,
            dead_job_ttls: DeadJobTtls::default(),
            archive_retention: None,
            retention: Retention::default(),
            faults: FaultHooks::default(),
        }
    }

    /// Registers a saga: its newest graph, with which new sagas are started.
    pub fn register(mut self, definition: Definition) -> Self {
        self.definitions.push(definition);
        self
    }

    /// Registers an earlier graph of a saga beside its newest one. A saga belongs to the graph with which it was started:
    /// new sagas take the newest, and those that were started with the earlier one go on with it, to their end or back.
    ///
    /// A deploy that changes the steps of a saga keeps the old definition here until no saga of it is left
    /// ([`Engine::check_in_flight`]).
    pub fn also(mut self, earlier: Definition) -> Self {
        self.earlier.push(earlier);
        self
    }

    /// Sets how long a claim lasts unless it is extended; ten seconds by default. Another process takes over the work
    /// of a dead one after this time at the latest. It has to be [`SHORTEST_LEASE`] or longer, except in builds with the
    /// cargo feature `testing`.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease;
        self
    }

    /// Sets how many sagas share a transaction at most; 256 by default.
    pub fn max_batch(mut self, max_batch: usize) -> Self {
        self.settings.max_batch = max_batch.max(1);
        self
    }

    /// Sets the interval at which each queue is polled when no hint arrives, with jitter; half a second by default.
    pub fn poll(mut self, poll: Duration) -> Self {
        self.settings.poll = poll;
        self
    }

    /// Sets how soon the database is asked whether a saga has ended that a caller waits for, unless the end is told
    /// before: 50 ms by default. Later questions come less often, up to 40 times this; and while other processes tell of
    /// ends, the first comes after 20 times this, and later ones come after up to 100 times this.
    pub fn end_poll(mut self, end_poll: Duration) -> Self {
        self.settings.end_poll = end_poll.max(Duration::from_millis(1));
        self
    }

    /// Sets how long a saga must be overdue before it is set aside because no live process that works on its queue knows
    /// its step; half a minute by default. It goes on as soon as such a process starts.
    pub fn unknown_grace(mut self, grace: Duration) -> Self {
        self.settings.unknown_grace = grace;
        self
    }

    /// Sets the shortest time between two sweeps, which find sagas that claims overlook; a minute by default.
    pub fn sweep(mut self, interval: Duration) -> Self {
        self.settings.sweep = interval;
        self
    }

    /// Sets how large an input or an output may be, in bytes of its JSON; 256 KiB by default. A start whose input is larger
    /// is refused. A step whose output is larger fails for good with the code `output-too-large`: what a transaction
    /// step wrote is taken back, and a call is in doubt.
    pub fn max_payload(mut self, bytes: usize) -> Self {
        self.settings.max_payload = bytes;
        self
    }

    /// Sets how spans of steps are linked to the trace of the caller that started the saga.
    pub fn trace_propagator(mut self, propagator: Arc<dyn TracePropagator>) -> Self {
        self.trace_propagator = Some(propagator);
        self
    }

    /// Calls `observer` for every saga that is dead-lettered, in the same transaction.
    pub fn on_dead_job(mut self, observer: impl DeadJobObserver) -> Self {
        self.dead_job_observer = Some(Arc::new(observer));
        self
    }

    /// Sets the time to live of dead jobs: how long they wait for an operator before they are archived and their sagas
    /// given up. Unlimited by default. It applies to sagas that are dead-lettered from then on, and never to those that
    /// died in an undo.
    pub fn dead_job_ttl(mut self, ttl: impl Into<Option<Duration>>) -> Self {
        self.dead_job_ttls.default = ttl.into();
        self
    }

    /// As [`EngineBuilder::dead_job_ttl`], for the sagas of one definition; `None` means no limit.
    pub fn dead_job_ttl_for(
        mut self,
        definition: impl Into<String>,
        ttl: impl Into<Option<Duration>>,
    ) -> Self {
        self.dead_job_ttls.by_definition.insert(definition.into(), ttl.into());
        self
    }

    /// Sets how long archived dead jobs are kept; forever by default.
    pub fn dead_job_archive_retention(mut self, keep: impl Into<Option<Duration>>) -> Self {
        self.archive_retention = keep.into();
        self
    }

    /// Sets how long sagas and their business keys are kept after their end; forever by default. They are deleted when
    /// [`Engine::prune_sagas`] and [`Engine::prune_business_keys`] are called.
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    #[cfg(feature = "testing")]
    pub(crate) fn faults(mut self, faults: FaultHooks) -> Self {
        self.faults = faults;
        self
    }

    /// Builds the engine and starts its group-commit tasks. It must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When two definitions share a name or a graph, the children of one can't be right, an earlier graph is registered of a saga that is not, a time to live is
    /// set for a definition that is not registered, or the lease is too short.
    pub fn build(self) -> Result<Engine, BuildError> {
        if self.settings.lease < SHORTEST_LEASE && !cfg!(feature = "testing") {
            let (given, shortest) = (self.settings.lease, SHORTEST_LEASE);
            return Err(BuildError::LeaseTooShort { given, shortest });
        }
        let definitions = Definitions::collect(self.definitions, self.earlier)?;
        definition_trees::check(&definitions)?;
        let (mut committers, mut arrivals) = (HashMap::new(), Vec::new());
        for definition in definitions.all() {
            register_zero_counters(&definition.graph);
            let (sender, receiver) = mpsc::unbounded_channel();
            committers.insert(definition.graph.hash.clone(), sender);
            arrivals.push((definition.clone(), receiver));
        }
        if let Some(unknown) =
            self.dead_job_ttls.by_definition.keys().find(|name| definitions.newest(name).is_none())
        {
            return Err(BuildError::NoSuchSaga(unknown.clone()));
        }
        let (starter, starts) = mpsc::unbounded_channel();
        let core = Arc::new(Core {
            pool: self.pool,
            worker: WorkerId::generate(),
            steps: steps(&definitions),
            hashes: definitions.all().map(|definition| definition.graph.hash.clone()).collect(),
            definitions,
            graphs: Graphs::default(),
            settings: self.settings,
            process: OnceLock::new(),
            feeds: Feeds::default(),
            leases: Arc::new(LeaseTable::default()),
            calls: Arc::new(Calls::default()),
            quarantine: Quarantine::default(),
            waiters: Waiters::default(),
            remote_ends: RemoteEnds::default(),
            hints: Hints::default(),
            lease_wakeup: Notify::new(),
            inbox_wakeup: Notify::new(),
            nudges: Nudges::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            committers,
            starter,
            trace_propagator: self.trace_propagator,
            dead_job_observer: self.dead_job_observer,
            dead_job_ttls: self.dead_job_ttls,
            archive_retention: self.archive_retention,
            retention: self.retention,
            commits: AtomicU64::new(0),
            faults: self.faults,
        });
        for (definition, receiver) in arrivals {
            core.tasks.spawn(group_commit::run(core.clone(), definition, receiver));
        }
        core.tasks.spawn(batcher::run(core.clone(), starts));
        core.supervise("keeping claims", lease_keeper::run);
        core.supervise("heartbeat", heartbeat::run);
        core.supervise("writing progress", progress_writer::run);
        core.supervise("sweeping", sweep::run);
        core.supervise("listening", hint_listener::run);
        core.supervise("sending hints", hint_sender::run);
        core.supervise("watching for ends", end_poll::run);
        core.supervise("archiving dead jobs", expiry::run);
        core.supervise("delivering cancels", inbox::run);
        core.supervise("carrying out requests", requests::run);
        core.supervise("nudging", nudge::run);
        core.supervise("looking for forgotten signals", forgotten_signals::run);
        Ok(Engine { core })
    }
}

fn steps(definitions: &Definitions) -> Vec<String> {
    let names = definitions.all().flat_map(|definition| {
        let steps = definition.graph.steps.iter();
        steps.map(|node| format!("{}/{}", definition.graph.name, node.name))
    });
    names.collect()
}

impl std::fmt::Debug for EngineBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineBuilder").field("settings", &self.settings).finish_non_exhaustive()
    }
}
