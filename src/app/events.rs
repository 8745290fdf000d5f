//! Gets events out: from the outbox into the log, from the log to Redis and RabbitMQ, and away when they are old.

mod publisher;
mod sequencer;

use std::{future::Future, time::Duration};

use breakers::{Breaker, Dependency};
use metrics::{Unit, describe_counter, describe_gauge};
use sqlx::PgPool;
use tokio::task::JoinSet;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use workers::sinks::{AmqpExchange, EventSink, RedisStream};

use super::process::ThisProcess;
use crate::{config::Config, failure::Failure};
use publisher::Publisher;

/// The stream and the exchange have one name.
const EVENTS_NAME: &str = "e-commerce.events";
/// The error of a wrong one is not repeated: it may hold the password.
const NO_REDIS_URL: &str = "it is no URL such as redis://:password@host:6379";
/// How long tasks may take to end after they were told to; then they are cut off.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Before a task that panicked is begun anew.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

const SEQUENCED: &str = "sagaline_outbox_sequenced_total";
const PRUNED: &str = "sagaline_events_pruned_total";
const PUBLISHED: &str = "sagaline_events_published_total";
const UP: &str = "sagaline_event_sink_up";
const FAILURES: &str = "sagaline_event_sink_failures_total";
const REWINDS: &str = "sagaline_event_sink_rewinds_total";

/// Tells the recorder what is measured here.
pub(crate) fn describe_metrics() {
    describe_counter!(SEQUENCED, Unit::Count, "Events that this process moved from the outbox into the log");
    describe_counter!(PRUNED, Unit::Count, "Old events that this process deleted");
    describe_counter!(PUBLISHED, Unit::Count, "Events that a consumer confirmed to this process");
    describe_gauge!(
        UP,
        "0 while this process fails to publish to a consumer, else 1, also while another does it"
    );
    describe_counter!(FAILURES, Unit::Count, "Attempts of this process to publish that failed, by consumer");
    describe_counter!(REWINDS, Unit::Count, "How often a consumer had lost events and got them again");
}

/// What one process does for events.
pub(crate) struct Events {
    pool: PgPool,
    sinks: Vec<(Breaker, EventSink)>,
    stream_max_len: i64,
    retention: Duration,
}

impl Events {
    /// Reads off the configuration where events go. Nothing is contacted yet.
    ///
    /// # Errors
    /// [`Failure::Unusable`] when a URL can't be used; the message names the variable and does not show its value.
    pub(crate) fn new(config: &Config, process: &ThisProcess, pool: PgPool) -> Result<Self, Failure> {
        let events = &config.events;
        let mut sinks = Vec::new();
        if let Some(url) = &config.redis_url {
            let stream = RedisStream::new(url.expose(), EVENTS_NAME, events.stream_longest.into());
            sinks.push(EventSink::Redis(
                stream
                    .map(Box::new)
                    .map_err(|_| Failure::Unusable(format!("REDIS_URL can't be used: {NO_REDIS_URL}")))?,
            ));
        }
        if let Some(url) = &events.amqp_url {
            let exchange = AmqpExchange::new(url.expose(), EVENTS_NAME);
            sinks.push(EventSink::Amqp(
                exchange
                    .map(Box::new)
                    .map_err(|error| Failure::Unusable(format!("AMQP_URL can't be used: {error}")))?,
            ));
        }
        let sinks = sinks.into_iter().map(|sink| (breaker(process, &sink), sink)).collect();
        Ok(Self { pool, sinks, stream_max_len: events.stream_longest.into(), retention: events.retention })
    }

    /// Works until `quit`, then finishes what is under way, in ten seconds at the most.
    pub(crate) async fn run(self, quit: CancellationToken) {
        let mut tasks = JoinSet::new();
        let (pool, stop) = (self.pool.clone(), quit.clone());
        tasks.spawn(supervise("sequencer", quit.clone(), move || sequencer::run(pool.clone(), stop.clone())));
        let (pool, stop, retention) = (self.pool.clone(), quit.clone(), self.retention);
        let prune = move || sequencer::prune(pool.clone(), retention, stop.clone());
        tasks.spawn(supervise("pruning", quit.clone(), prune));
        for (breaker, sink) in self.sinks {
            let name = sink.name();
            let publisher = Publisher::new(self.pool.clone(), sink, breaker, self.stream_max_len);
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
                "what gets events out has not ended in time and is cut off; nothing is lost by that"
            );
        }
    }
}

/// The breaker that stands before a sink.
fn breaker(process: &ThisProcess, sink: &EventSink) -> Breaker {
    process.breakers().of(match sink {
        EventSink::Redis(_) => Dependency::Redis,
        EventSink::Amqp(_) => Dependency::Amqp,
    })
}

/// Runs a task until it ends by itself; one that panics is begun anew.
async fn supervise<F: Future<Output = ()> + Send + 'static>(
    name: &'static str,
    quit: CancellationToken,
    mut begin: impl FnMut() -> F,
) {
    while let Err(died) = AbortOnDropHandle::new(tokio::spawn(begin())).await {
        tracing::error!(task = name, error = %died, "a task that gets events out died; it is begun anew");
        tokio::select! {
            () = tokio::time::sleep(RESTART_PAUSE) => {}
            () = quit.cancelled() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_begun_anew() {
        let begun = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&begun);
        let task = move || {
            let nth = seen.fetch_add(1, Ordering::SeqCst);
            async move { assert!(nth >= 2, "it dies twice") }
        };
        supervise("test", CancellationToken::new(), task).await;
        assert_eq!(begun.load(Ordering::SeqCst), 3);
    }
}
