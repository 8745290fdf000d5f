//! A tower layer that ends an apalis task only when the group commit of its job is durable. A job of a transaction step
//! goes straight to it; that of a call step is performed first.
//!
//! It is the outermost layer, so that success in apalis means *committed*. The limit of jobs in flight is here, too:
//! apalis' own `.concurrency(n)` does not cover the wait for an acknowledgement, so with it the number of jobs in
//! flight would grow without bound while a commit is slow.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    task::{Context, Poll},
};

use apalis_core::{error::BoxDynError, task::Task};
use engine::{Committed, Engine, Job, Performed, SagaId};
use futures::{FutureExt, future::BoxFuture};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::{Layer, Service, limit::ConcurrencyLimit};

use super::options::QueueOptions;
use crate::metrics::{InFlight, QueueMetrics};

/// Commits the result of a job before its task ends, and limits how many tasks are in flight.
#[derive(Clone)]
pub struct CommitLayer {
    engine: Engine,
    /// Shared by all starts of the worker, as is the limit of calls.
    in_flight: Arc<Semaphore>,
    calls: Arc<Semaphore>,
    /// Once cancelled, calls that wait for their turn are released instead.
    stop: CancellationToken,
    metrics: QueueMetrics,
}

impl CommitLayer {
    pub(crate) fn new(
        engine: Engine,
        options: &QueueOptions,
        metrics: QueueMetrics,
        stop: CancellationToken,
    ) -> Self {
        Self {
            engine,
            in_flight: Arc::new(Semaphore::new(options.concurrency)),
            calls: Arc::new(Semaphore::new(options.call_concurrency)),
            stop,
            metrics,
        }
    }

    /// The number of jobs in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.metrics.in_flight()
    }
}

impl std::fmt::Debug for CommitLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CommitLayer").field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}

impl<S> Layer<S> for CommitLayer {
    type Service = ConcurrencyLimit<CommitService<S>>;

    fn layer(&self, inner: S) -> Self::Service {
        let service = CommitService {
            inner,
            engine: self.engine.clone(),
            calls: self.calls.clone(),
            stop: self.stop.clone(),
            metrics: self.metrics.clone(),
        };
        ConcurrencyLimit::with_semaphore(service, self.in_flight.clone())
    }
}

/// Performs a job with the inner service, then commits it; created by [`CommitLayer`].
#[derive(Clone)]
pub struct CommitService<S> {
    inner: S,
    engine: Engine,
    calls: Arc<Semaphore>,
    /// Once cancelled, calls that wait for their turn are released instead.
    stop: CancellationToken,
    metrics: QueueMetrics,
}

impl<S> std::fmt::Debug for CommitService<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CommitService").field("in_flight", &self.metrics.in_flight()).finish_non_exhaustive()
    }
}

impl<S> Service<Task<Job>> for CommitService<S>
where
    S: Service<Task<Job>, Response = (Job, Performed)> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxDynError> + Send + 'static,
{
    type Response = ();
    type Error = BoxDynError;
    type Future = BoxFuture<'static, Result<(), BoxDynError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxDynError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, task: Task<Job>) -> Self::Future {
        let saga_id = task.args.saga_id();
        let engine = self.engine.clone();
        let in_flight = self.metrics.enter();
        // A transaction step is run by its batch: there is nothing to perform before.
        if !task.args.is_call() {
            let committing = async move { Ok(Some(engine.commit(task.args, Performed::in_batch()).await)) };
            return Box::pin(finish(committing, saga_id, in_flight));
        }
        let (calls, stop) = (self.calls.clone(), self.stop.clone());
        // The clone has not been polled for readiness, so it stays, and the polled service is used.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let performing = async move {
            let _permit = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(JobResult::NotStarted(task.args)),
                permit = calls.acquire_owned() => permit?,
            };
            let (job, performed) = inner.call(task).await.map_err(Into::into)?;
            Ok::<_, BoxDynError>(JobResult::Performed(job, performed))
        };
        let committing = async move {
            match performing.await? {
                JobResult::Performed(job, performed) => Ok(Some(engine.commit(job, performed).await)),
                JobResult::NotStarted(job) => {
                    engine.release(job);
                    Ok::<_, BoxDynError>(None)
                }
            }
        };
        Box::pin(finish(committing, saga_id, in_flight))
    }
}

/// Counts what a job came to. A task always succeeds: apalis is not to try it again.
async fn finish(
    committing: impl Future<Output = Result<Option<Committed>, BoxDynError>>,
    saga_id: SagaId,
    in_flight: InFlight,
) -> Result<(), BoxDynError> {
    // The engine catches panics of a step's code. A panic that gets here is a bug of this project: it costs this job
    // its attempt, but not the worker with all other jobs in flight.
    match AssertUnwindSafe(committing).catch_unwind().await {
        Ok(Ok(Some(Committed::Applied))) => in_flight.applied(),
        Ok(Ok(Some(Committed::Lost))) => in_flight.lost(),
        Ok(Ok(None)) => in_flight.released(),
        Ok(Err(error)) => {
            tracing::error!(saga.id = %saga_id, error = %engine::ErrorChain(&*error), "a job could not be performed");
            in_flight.errored();
        }
        Err(_panic) => {
            tracing::error!(saga.id = %saga_id, "committing a job panicked; its claim lapses");
            in_flight.errored();
        }
    }
    Ok(())
}

/// How far a job got.
enum JobResult {
    /// It was performed, and is to be committed.
    Performed(Job, Performed),
    /// The stop came while it waited for its turn to call.
    NotStarted(Job),
}
