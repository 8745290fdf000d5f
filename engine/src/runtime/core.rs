//! The state that all handles and tasks of one engine share.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sqlx::PgPool;
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    definition::observer::ErasedDeadJobObserver,
    model::{
        dead_job::DeadJobTtls,
        ids::{SagaId, WorkerId},
        retention::Retention,
        status::Direction,
    },
    runtime::{
        calls::Calls,
        definitions::Definitions,
        graphs::Graphs,
        hints::Hints,
        leases::LeaseTable,
        messages::{CommitSender, StartSender},
        nudges::Nudges,
        quarantine::Quarantine,
        queue::feeds::Feeds,
        remote_ends::RemoteEnds,
        settings::{ProcessInfo, Settings},
        waiters::Waiters,
    },
    store,
    support::{connection, faults::FaultHooks, supervise::supervised, trace_propagator::TracePropagator},
};

/// The shared state of one engine: its settings and definitions, and the claims and feeds of this process. It depends
/// only on modules below `runtime`'s folders.
pub(crate) struct Core {
    pub(crate) pool: PgPool,
    pub(crate) worker: WorkerId,
    pub(crate) definitions: Definitions,
    /// The graphs of others, as far as they were needed.
    pub(crate) graphs: Graphs,
    /// All steps of all definitions, as `definition/step`.
    pub(crate) steps: Vec<String>,
    /// The hashes of all graphs: this process works on the sagas that were started with them, and on no others.
    pub(crate) hashes: Vec<String>,
    /// How this process is listed, once it is to be listed among the live processes.
    pub(crate) process: OnceLock<ProcessInfo>,
    pub(crate) settings: Settings,
    pub(crate) feeds: Feeds,
    pub(crate) leases: Arc<LeaseTable>,
    pub(crate) calls: Arc<Calls>,
    pub(crate) quarantine: Quarantine,
    pub(crate) waiters: Waiters,
    pub(crate) remote_ends: RemoteEnds,
    pub(crate) hints: Hints,
    pub(crate) lease_wakeup: Notify,
    /// Told when a message for a saga was stored.
    pub(crate) inbox_wakeup: Notify,
    pub(crate) nudges: Nudges,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
    /// The group commits, by the hash of the graph.
    pub(crate) committers: HashMap<String, CommitSender>,
    pub(crate) starter: StartSender,
    pub(crate) trace_propagator: Option<Arc<dyn TracePropagator>>,
    pub(crate) dead_job_observer: Option<Arc<dyn ErasedDeadJobObserver>>,
    pub(crate) dead_job_ttls: DeadJobTtls,
    /// How long archived dead jobs are kept; `None` for forever.
    pub(crate) archive_retention: Option<Duration>,
    /// How long sagas are kept after their end.
    pub(crate) retention: Retention,
    /// The number of transactions that this process has committed for sagas.
    pub(crate) commits: AtomicU64,
    pub(crate) faults: FaultHooks,
}

impl Core {
    pub(crate) fn lease_ms(&self) -> i64 {
        i64::try_from(self.settings.lease.as_millis()).unwrap_or(i64::MAX)
    }

    /// The number of transactions that this process has committed for sagas. If it grows while a batch fails, the database
    /// works for others.
    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    pub(crate) fn count_commit(&self) {
        self.commits.fetch_add(1, Ordering::Relaxed);
    }

    /// Spawns a background task of the engine, which is restarted after a panic.
    pub(crate) fn supervise<F>(self: &Arc<Self>, name: &'static str, task: fn(Arc<Self>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let core = self.clone();
        self.tasks.spawn(async move {
            let stop = core.stop.clone();
            supervised(name, &stop, || task(core.clone())).await;
        });
    }

    /// Terminates a PostgreSQL backend of this engine that still executes a statement whose result is no longer
    /// awaited, and so holds its locks.
    pub(crate) async fn terminate_backend(&self, pid: i32) -> Result<(), sqlx::Error> {
        connection::with_timeout(&self.pool, self.settings.db_timeout(), async |conn| {
            store::commits::terminate(conn, pid).await
        })
        .await
    }

    pub(crate) fn step_span(
        &self,
        saga_id: SagaId,
        definition: &str,
        step: &str,
        direction: Direction,
        attempt: u32,
        traceparent: Option<&str>,
    ) -> tracing::Span {
        let span = tracing::info_span!(
            "step", otel.name = %step, saga.id = %saga_id, saga.definition = %definition, step.name = %step,
            step.direction = %direction, step.attempt = attempt
        );
        if let (Some(propagator), Some(traceparent)) = (&self.trace_propagator, traceparent) {
            propagator.adopt(&span, traceparent);
        }
        span
    }
}
