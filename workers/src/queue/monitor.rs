//! Runs the apalis monitor of one queue until the process stops.

use std::time::Duration;

use apalis::prelude::WorkerBuilderExt;
use apalis_core::{
    monitor::Monitor,
    worker::{builder::WorkerBuilder, context::WorkerContext},
};
use engine::Engine;
use tokio_util::sync::CancellationToken;

use super::{
    backend::{EngineBackend, SharedFeed},
    commit::CommitLayer,
    options::QueueOptions,
    perform::Perform,
    worked_queue::{WorkedQueue, worker_name},
};

/// How long a release may take once the shutdown deadline has passed; a lease that could not be released lapses.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause before a monitor that ended by itself is restarted.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// Runs one queue until `stop` is cancelled: then claims no more, lets the jobs in flight finish within the deadline,
/// and releases the rest.
pub(crate) async fn run(engine: Engine, queue: WorkedQueue, deadline: Duration, stop: CancellationToken) {
    let WorkedQueue { options, metrics } = queue;
    let layer = CommitLayer::new(engine.clone(), &options, metrics, stop.clone());
    loop {
        let feed = SharedFeed::new(engine.feed(&options.name, options.concurrency));
        let monitor = monitor(&engine, &options, &feed, &layer, deadline);
        tracing::info!(queue = %options.name, concurrency = options.concurrency, "working on the queue");
        let signal = {
            let (stop, feed) = (stop.clone(), feed.clone());
            async move {
                stop.cancelled().await;
                // Closed at once: apalis closes its backend only when all jobs in flight are done.
                feed.close();
                Ok(())
            }
        };
        let ended = monitor.run_with_signal(signal).await;
        if tokio::time::timeout(RELEASE_TIMEOUT, feed.release()).await.is_err() {
            tracing::warn!(queue = %options.name, "claims could not be released in time; their leases lapse");
        }
        if stop.is_cancelled() {
            tracing::info!(queue = %options.name, "no longer working on the queue");
            return;
        }
        tracing::error!(queue = %options.name, ?ended, "the queue's monitor ended by itself and is restarted");
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
            WorkerBuilder::new(worker_name(&options.name))
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
                "steps outlasted the shutdown deadline and are abandoned"
            );
        }
    };
    Monitor::new().register(worker).should_restart(|_: &WorkerContext, _| true).with_terminator(overrun)
}
