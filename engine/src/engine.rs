//! The handle through which a process uses the engine: start sagas, wait for them, and work on queues.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use tokio::sync::oneshot;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    definition::{
        new_saga::{NewSaga, Started},
        saga::Definition,
    },
    model::{
        error::{StartError, StepError},
        ids::{SagaId, WorkerId},
        views::FinalStatus,
    },
    runtime::{
        claim::{claim_sagas::claim, feed::Feed},
        core::Core,
        effects::{self, Session},
        job::{Committed, Job, Performed},
        lease_updates,
        messages::StartRequest,
        perform,
        queue::{feeds::DueHook, throttle::Throttle},
        settings::ProcessInfo,
        start::{
            start_sagas::{self, ClaimOnStart},
            validate::check,
        },
    },
    store::{self, claims::ClaimScope},
};

/// A handle to the engine of this process; clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    pub(crate) core: Arc<Core>,
}

impl Engine {
    /// Starts a saga. It is durable when this returns; concurrent callers share a commit. The saga's steps join the
    /// caller's trace. A wrong input is refused without asking the database.
    ///
    /// # Errors
    /// See [`StartError`]. On `Unavailable` it is safe to try again with the same id or business key.
    ///
    /// # Cancel safety
    /// If the future is dropped, the saga may have been started nevertheless.
    pub async fn start(&self, saga: NewSaga) -> Result<Started, StartError> {
        // Here and not in the batch: callers check side by side, and a batch that is tried again does not check again.
        check(&self.core, &saga)?;
        let saga = NewSaga { checked: true, ..saga };
        let saga = saga.trace_or(|| self.core.trace_propagator.as_ref()?.current());
        let (reply, reply_rx) = oneshot::channel();
        self.core
            .starter
            .send(StartRequest { saga, reply })
            .map_err(|_| StartError::Unavailable("the engine is shutting down".into()))?;
        reply_rx.await.map_err(|_| StartError::Unavailable("the engine is shutting down".into()))?
    }

    /// Starts sagas in the caller's transaction: they exist if and only if it commits. The sagas' steps join the
    /// caller's trace.
    ///
    /// # Errors
    /// When the transaction's SQL fails; the caller should then roll it back. A refused saga is not an error: it is in
    /// the answers.
    pub async fn start_in(
        &self,
        conn: &mut PgConnection,
        sagas: Vec<NewSaga>,
    ) -> Result<Vec<Result<Started, StartError>>, StepError> {
        let current = || self.core.trace_propagator.as_ref()?.current();
        let sagas = sagas.into_iter().map(|saga| saga.trace_or(current)).collect();
        let mut session = Session::new(&self.core);
        start_sagas::start(&mut session, conn, sagas, ClaimOnStart::No).await
    }

    /// Starts a saga and waits for its end, at most for `timeout`; `None` means that the saga is still active, or was
    /// deleted ([`Started::key_kept_until`]). A saga that no process works on ([`Engine::run`]) does not end.
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub async fn start_and_wait(
        &self,
        saga: NewSaga,
        timeout: Duration,
    ) -> Result<(Started, Option<FinalStatus>), StartError> {
        let reply_rx = self.core.waiters.subscribe(saga.saga_id());
        let started = self.start(saga).await?;
        if started.key_kept_until.is_some() {
            return Ok((started, None));
        }
        if started.existing {
            let ending = self.wait(started.saga_id, timeout).await;
            return Ok((started, ending.map_err(|error| StartError::Unavailable(error.to_string()))?));
        }
        let ending = tokio::time::timeout(timeout, reply_rx).await.ok().and_then(Result::ok);
        Ok((started, ending))
    }

    /// Waits until a saga is completed, compensated or dead, at most for `timeout`.
    ///
    /// # Errors
    /// When the saga can't be read at first; [`sqlx::Error::RowNotFound`] when there is no such saga.
    pub async fn wait(&self, saga_id: SagaId, timeout: Duration) -> Result<Option<FinalStatus>, sqlx::Error> {
        let reply_rx = self.core.waiters.subscribe(saga_id);
        let now =
            store::queries::status_of(&self.core.pool, saga_id.0).await?.ok_or(sqlx::Error::RowNotFound)?;
        if !now.status.is_active() {
            return Ok(Some(now));
        }
        Ok(tokio::time::timeout(timeout, reply_rx).await.ok().and_then(Result::ok))
    }

    /// Ends all waits for sagas, current and future, as if they had timed out. A process calls it when it is about to
    /// stop. The sagas are not affected.
    pub fn close_waits(&self) {
        self.core.waiters.close();
    }

    /// The newest definition of each registered saga, by name.
    pub fn definitions(&self) -> impl Iterator<Item = &Definition> {
        self.core.definitions.all_newest().map(AsRef::as_ref)
    }

    /// Stores the graphs of all registered definitions, as the first start and the first claim do.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn store_graphs(&self) -> Result<(), sqlx::Error> {
        let mut conn = self.core.pool.acquire().await?;
        self.core.graphs.ensure_stored(&self.core.definitions, &mut conn).await
    }

    /// Finds the newest definition of a registered saga.
    pub fn definition(&self, name: &str) -> Option<&Definition> {
        self.core.definitions.newest(name).map(AsRef::as_ref)
    }

    /// Finds the registered definition with this graph: the newest of its name, or an [earlier](crate::EngineBuilder::also) one.
    pub fn definition_of(&self, graph_hash: &str) -> Option<&Definition> {
        self.core.definitions.with_hash(graph_hash).map(AsRef::as_ref)
    }

    /// Opens the feed of a queue: from now on this process works on it, on at most `capacity` sagas at a time. A saga
    /// is of the queue `default` unless [`Saga::queue`](crate::Saga::queue) says otherwise. An engine has at most one
    /// feed for each queue.
    pub fn feed(&self, queue: &str, capacity: usize) -> Feed {
        Feed::open(self.core.clone(), queue, capacity.max(1))
    }

    /// Performs a job: makes the call of a call step, with its time-out, and catches panics. It makes no call under a claim
    /// whose lease has ended and can't be extended; [`Engine::commit`] then releases the claim. A transaction step needs
    /// no performing ([`Performed::in_batch`]): its code runs in the batch that [`Engine::commit`] joins.
    pub async fn perform(&self, job: &Job) -> Performed {
        perform::perform(&self.core, job).await
    }

    /// Commits a job with the result of performing it, in one batch with all jobs that arrive meanwhile. Returns when
    /// the commit is durable. If the saga can continue at once, its next job is in its feed by then.
    pub async fn commit(&self, job: Job, performed: Performed) -> Committed {
        perform::commit(&self.core, job, performed).await
    }

    /// Releases the claim of a job that was not started. [`Feed::closed`] and [`Engine::shutdown`] wait until the
    /// release is written, unless another transaction has locked the saga.
    pub fn release(&self, job: Job) {
        lease_updates::release_unstarted(&self.core, [job]);
    }

    /// Abandons a job that was started: the attempt still counts, and a call is in doubt.
    pub fn abandon(&self, job: Job) {
        lease_updates::abandon(&self.core, job);
    }

    /// Works on a feed until `stop` is cancelled, then closes it and finishes the jobs that it received: the simplest
    /// way to run sagas inside one process.
    pub async fn run(&self, feed: &mut Feed, stop: CancellationToken) {
        let jobs = TaskTracker::new();
        loop {
            let job = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                job = feed.recv() => job,
            };
            let Some(job) = job else { break };
            let core = self.core.clone();
            jobs.spawn(async move {
                let performed = perform::perform(&core, &job).await;
                perform::commit(&core, job, performed).await
            });
        }
        feed.close();
        jobs.close();
        jobs.wait().await;
        feed.closed().await;
    }

    /// Claims these sagas for the feeds of this process, as far as they are due and not claimed by another process.
    /// Returns how many it claimed.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn claim_ids(&self, ids: &[SagaId]) -> Result<usize, sqlx::Error> {
        let ids: Vec<_> = ids.iter().map(|id| id.0).collect();
        let jobs = claim(&self.core, ClaimScope::Ids(&ids), ids.len()).await?.jobs;
        let claimed = jobs.len();
        for job in jobs {
            effects::dispatch(&self.core, job);
        }
        Ok(claimed)
    }

    /// Sets a hook that gets the ids of sagas that became due in a queue, after the commit, to pass them on to other
    /// processes. It does not get sagas that were started in a caller's own transaction; the poll finds those.
    pub fn on_due(&self, queue: &str, hook: DueHook) {
        self.core.feeds.set_due_hook(queue, hook);
    }

    /// Sets the throttle of a queue in this process. Every poll of the queue asks it, so a change of its answer needs
    /// no notification.
    pub fn throttle(&self, queue: &str, throttle: Throttle) {
        self.core.feeds.throttles.set(queue, throttle);
        self.core.feeds.wake(queue);
    }

    /// Lists this process among the live ones, in `engine.process`, with this role and version. A process that opens a
    /// feed is listed in any case.
    pub fn announce(&self, role: &str, version: &str) {
        // If the process is listed already, it keeps its role.
        let _ = self.core.process.set(ProcessInfo::of(role, version));
        self.core.feeds.changed.notify_one();
    }

    /// The number of claims that this process holds.
    pub fn claim_count(&self) -> usize {
        self.core.leases.count()
    }

    /// The worker id under which this process holds leases.
    pub fn worker(&self) -> WorkerId {
        self.core.worker
    }

    /// The pool of the engine's database.
    pub fn pool(&self) -> &PgPool {
        &self.core.pool
    }

    /// The current time by the database's clock.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn now(&self) -> Result<DateTime<Utc>, sqlx::Error> {
        store::queries::now(&self.core.pool).await
    }

    /// Stops the engine's tasks once they have finished what they hold, and releases all claims that can be released.
    /// Close the feeds and let their workers finish first. It takes little more than two leases: by then, claims that
    /// could not be committed have expired. Sagas that another transaction keeps locked stay claimed until their leases
    /// end.
    pub async fn shutdown(&self) {
        self.core.stop.cancel();
        self.core.tasks.close();
        let timeout = self.core.settings.lease * 2;
        if tokio::time::timeout(timeout, self.core.tasks.wait()).await.is_err() {
            tracing::warn!("stopping without the last commits: the database does not respond");
        }
        lease_updates::flush_last_releases(&self.core, self.core.settings.db_timeout()).await;
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("worker", &self.core.worker).finish_non_exhaustive()
    }
}
