//! One queue: its options, and the monitor that runs its worker until told to stop.

use std::time::Duration;

use apalis::prelude::WorkerBuilderExt;
use apalis_core::{
    monitor::Monitor,
    worker::{builder::WorkerBuilder, context::WorkerContext},
};
use engine::Engine;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    backend::{EngineBackend, SharedFeed},
    commit::CommitLayer,
    metrics::QueueMetrics,
    perform::Perform,
};

/// How long a release may take once the deadline for steps is over; a lease that could not be given back lapses.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause before a monitor that ended by itself is started anew.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// How one queue is worked on by this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueOptions {
    /// The queue's name, as definitions give it.
    pub name: String,
    /// How many jobs may be in flight at once. Most only wait for their group commit, so this is large.
    pub concurrency: usize,
    /// How many of them may be calls to the outside world at once.
    pub call_concurrency: usize,
}

impl QueueOptions {
    /// In flight at once unless said otherwise. Measured: a thousand keep a group commit of some milliseconds busy.
    pub const DEFAULT_CONCURRENCY: usize = 1024;
    /// Calls at once unless said otherwise.
    pub const DEFAULT_CALL_CONCURRENCY: usize = 64;

    /// The queue of this name with the default limits.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            concurrency: Self::DEFAULT_CONCURRENCY,
            call_concurrency: Self::DEFAULT_CALL_CONCURRENCY,
        }
    }
}

/// A queue that this process works on, with its metrics.
#[derive(Clone)]
pub(crate) struct WorkedQueue {
    options: QueueOptions,
    metrics: QueueMetrics,
}

impl WorkedQueue {
    pub(crate) fn new(options: QueueOptions) -> Self {
        let metrics = QueueMetrics::new(&options.name);
        Self { options, metrics }
    }

    pub(crate) fn name(&self) -> &str {
        &self.options.name
    }

    /// Are as many jobs in flight as may be?
    pub(crate) fn is_full(&self) -> bool {
        self.metrics.in_flight() >= self.options.concurrency
    }
}

impl std::fmt::Debug for WorkedQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.options.fmt(f)
    }
}

/// Runs one queue until the token is cancelled: then claims no more, lets what is in flight finish within the
/// deadline, and releases the rest.
pub(crate) async fn run(engine: Engine, queue: WorkedQueue, deadline: Duration, stop: CancellationToken) {
    let WorkedQueue { options, metrics } = queue;
    let layer = CommitLayer::new(engine.clone(), &options, metrics, stop.clone());
    loop {
        let feed = SharedFeed::new(engine.feed(&options.name, options.concurrency));
        let monitor = monitor(&engine, &options, &feed, &layer, deadline);
        tracing::info!(queue = %options.name, concurrency = options.concurrency, "the queue is being worked on");
        let signal = {
            let (stop, feed) = (stop.clone(), feed.clone());
            async move {
                stop.cancelled().await;
                // Now, and not only when all in flight is done, which is when apalis closes its backend.
                feed.close();
                Ok(())
            }
        };
        let ended = monitor.run_with_signal(signal).await;
        if tokio::time::timeout(RELEASE_TIMEOUT, feed.release()).await.is_err() {
            tracing::warn!(queue = %options.name, "claims could not be released in time; their leases lapse");
        }
        if stop.is_cancelled() {
            tracing::info!(queue = %options.name, "the queue is no longer worked on");
            return;
        }
        tracing::error!(queue = %options.name, ?ended, "the queue's monitor ended by itself; it is started anew");
        tokio::time::sleep(RESTART_PAUSE).await;
    }
}

fn monitor(
    engine: &Engine,
    options: &QueueOptions,
    feed: &SharedFeed,
    layer: &CommitLayer,
    deadline: Duration,
) -> Monitor {
    let perform = Perform::new(engine.clone());
    let worker = {
        let (options, feed, layer) = (options.clone(), feed.clone(), layer.clone());
        move |_restarts: usize| {
            WorkerBuilder::new(fresh_name(&options.name))
                .backend(EngineBackend::new(feed.clone(), options.clone(), layer.clone()))
                .catch_panic()
                .build(perform.clone())
        }
    };
    let overrun = {
        let (queue, layer) = (options.name.clone(), layer.clone());
        async move {
            tokio::time::sleep(deadline).await;
            tracing::warn!(
                queue,
                in_flight = layer.in_flight(),
                "steps outlasted the shutdown deadline and are given up"
            );
        }
    };
    Monitor::new().register(worker).should_restart(|_: &WorkerContext, _| true).with_terminator(overrun)
}

/// A name that no earlier start had: apalis takes a worker of a known name for the one that was there before.
pub(crate) fn fresh_name(queue: &str) -> String {
    format!("{queue}-{}", Uuid::now_v7())
}
