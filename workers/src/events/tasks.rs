//! Starts, supervises and stops the tasks that take events out.

use std::{future::Future, sync::Arc, time::Duration};

use breakers::Breaker;
use tokio::{sync::Mutex, task::JoinSet};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{event_log::EventLog, publisher::Publisher, sequencer};
use crate::sinks::EventSink;

/// How long the tasks may take to end after the stop; then they are aborted.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause before a task that panicked is restarted.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// The tasks of one process that sequence, prune and publish the events of a log.
#[derive(Debug)]
pub struct EventTasks<L> {
    log: L,
    retention: Duration,
    sinks: Vec<(EventSink, Breaker)>,
}

impl<L: EventLog> EventTasks<L> {
    /// Creates the tasks; events older than `retention` that every consumer has are deleted.
    pub fn new(log: L, retention: Duration) -> Self {
        Self { log, retention, sinks: Vec::new() }
    }

    /// Adds a sink to publish to, and the breaker of its calls.
    pub fn sink(mut self, sink: EventSink, breaker: Breaker) -> Self {
        self.sinks.push((sink, breaker));
        self
    }

    /// Runs until `quit`, then lets the tasks finish what they are doing, in at most ten seconds.
    pub async fn run(self, quit: CancellationToken) {
        let mut tasks = JoinSet::new();
        let (log, stop) = (self.log.clone(), quit.clone());
        tasks.spawn(supervise("sequencer", quit.clone(), move || sequencer::run(log.clone(), stop.clone())));
        let (log, stop, retention) = (self.log.clone(), quit.clone(), self.retention);
        let prune = move || sequencer::prune(log.clone(), retention, stop.clone());
        tasks.spawn(supervise("pruning", quit.clone(), prune));
        for (sink, breaker) in self.sinks {
            let name = sink.name();
            // Shared, so that it is there again when the task is restarted.
            let publisher = Arc::new(Mutex::new(Publisher::new(self.log.clone(), sink, breaker)));
            let stop = quit.clone();
            let publish = move || {
                let (publisher, stop) = (publisher.clone(), stop.clone());
                async move { publisher.lock().await.run(stop).await }
            };
            tasks.spawn(supervise(name, quit.clone(), publish));
        }
        quit.cancelled().await;
        let ended = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_TIMEOUT, ended).await.is_err() {
            tracing::warn!(
                "the event tasks have not ended in time and are aborted; no event is lost by that"
            );
        }
    }
}

/// Runs a task until it ends by itself; restarts one that panics.
async fn supervise<F: Future<Output = ()> + Send + 'static>(
    name: &'static str,
    quit: CancellationToken,
    mut start: impl FnMut() -> F,
) {
    while let Err(panicked) = AbortOnDropHandle::new(tokio::spawn(start())).await {
        tracing::error!(task = name, error = %engine::ErrorChain(&panicked), "an event task panicked and is restarted");
        tokio::select! {
            () = tokio::time::sleep(RESTART_PAUSE) => {}
            () = quit.cancelled() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_restarted() {
        let starts = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&starts);
        let task = move || {
            let nth = counted.fetch_add(1, Ordering::SeqCst);
            async move { assert!(nth >= 2, "it panics twice") }
        };
        supervise("test", CancellationToken::new(), task).await;
        assert_eq!(starts.load(Ordering::SeqCst), 3);
    }
}
