//! The metrics of this crate, by name, and the handles that count them.
//!
//! Handles of metrics on hot paths are created once, because looking a metric up costs more than counting.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use metrics::{Counter, Gauge, Unit};

const IN_FLIGHT: &str = "sagaline_worker_in_flight";
const JOBS: &str = "sagaline_jobs_total";
const REDIS_UP: &str = "sagaline_redis_up";
const PUSHED: &str = "sagaline_redis_pushed_total";
const DROPPED: &str = "sagaline_redis_dropped_total";
const RECEIVED: &str = "sagaline_redis_received_total";
const CLAIMED: &str = "sagaline_redis_claimed_total";
pub(crate) const EVENTS_SEQUENCED: &str = "sagaline_outbox_sequenced_total";
pub(crate) const EVENTS_PRUNED: &str = "sagaline_events_pruned_total";
pub(crate) const EVENTS_PUBLISHED: &str = "sagaline_events_published_total";
pub(crate) const SINK_FOREIGN: &str = "sagaline_event_sink_foreign_entries_total";
pub(crate) const CONSUMER_REMOVED: &str = "sagaline_event_consumer_removed";
pub(crate) const SINK_UP: &str = "sagaline_event_sink_up";
pub(crate) const SINK_FAILURES: &str = "sagaline_event_sink_failures_total";
pub(crate) const SINK_REWINDS: &str = "sagaline_event_sink_rewinds_total";

/// Describes every metric of this crate to the recorder.
pub fn describe_metrics() {
    metrics::describe_gauge!(IN_FLIGHT, Unit::Count, "Jobs being performed or committed, by queue.");
    metrics::describe_counter!(
        JOBS,
        Unit::Count,
        "Jobs that ended, by queue and outcome: moved, lost, released, errored."
    );
    metrics::describe_gauge!(REDIS_UP, "1 while the queue's Redis answers, 0 while it does not.");
    metrics::describe_counter!(PUSHED, Unit::Count, "Saga ids pushed to Redis, by queue.");
    metrics::describe_counter!(
        DROPPED,
        Unit::Count,
        "Saga ids not pushed to Redis, because too many waited or it was unreachable, by queue; the poll finds them."
    );
    metrics::describe_counter!(RECEIVED, Unit::Count, "Saga ids received from Redis, by queue.");
    metrics::describe_counter!(CLAIMED, Unit::Count, "Sagas claimed by an id from Redis, by queue.");
    metrics::describe_counter!(
        EVENTS_SEQUENCED,
        Unit::Count,
        "Events that this process moved from the outbox into the log"
    );
    metrics::describe_counter!(EVENTS_PRUNED, Unit::Count, "Old events that this process deleted");
    metrics::describe_counter!(
        EVENTS_PUBLISHED,
        Unit::Count,
        "Events that a consumer confirmed to this process"
    );
    metrics::describe_gauge!(
        SINK_UP,
        "0 while this process fails to publish to a consumer, else 1, also while another process publishes to it"
    );
    metrics::describe_counter!(
        SINK_FOREIGN,
        Unit::Count,
        "How often a sink had entries that are not of this log: another system publishes there, or the log was restored"
    );
    metrics::describe_gauge!(
        CONSUMER_REMOVED,
        "1 while a consumer that this process publishes to is removed, so that it gets nothing"
    );
    metrics::describe_counter!(
        SINK_FAILURES,
        Unit::Count,
        "Failed attempts of this process to publish, by consumer"
    );
    metrics::describe_counter!(
        SINK_REWINDS,
        Unit::Count,
        "How often a consumer had lost events and got them again"
    );
}

/// Counts the jobs of one queue.
#[derive(Clone)]
pub(crate) struct QueueMetrics(Arc<QueueHandles>);

struct QueueHandles {
    now: AtomicUsize,
    in_flight: Gauge,
    applied: Counter,
    lost: Counter,
    released: Counter,
    errored: Counter,
}

impl QueueMetrics {
    pub(crate) fn new(queue: &str) -> Self {
        let jobs = |outcome: &'static str| metrics::counter!(JOBS, "queue" => queue.to_owned(), "outcome" => outcome);
        Self(Arc::new(QueueHandles {
            now: AtomicUsize::new(0),
            in_flight: metrics::gauge!(IN_FLIGHT, "queue" => queue.to_owned()),
            // Its name in the metric, which dashboards may use.
            applied: jobs("moved"),
            lost: jobs("lost"),
            released: jobs("released"),
            errored: jobs("errored"),
        }))
    }

    /// Counts a job as in flight until the returned guard ends or is dropped.
    pub(crate) fn enter(&self) -> InFlight {
        self.0.now.fetch_add(1, Ordering::Relaxed);
        self.0.in_flight.increment(1.0);
        InFlight(self.clone())
    }

    /// The number of jobs in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.0.now.load(Ordering::Relaxed)
    }
}

/// One job in flight.
pub(crate) struct InFlight(QueueMetrics);

impl InFlight {
    pub(crate) fn applied(self) {
        self.0.0.applied.increment(1);
    }

    pub(crate) fn lost(self) {
        self.0.0.lost.increment(1);
    }

    pub(crate) fn released(self) {
        self.0.0.released.increment(1);
    }

    pub(crate) fn errored(self) {
        self.0.0.errored.increment(1);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.0.now.fetch_sub(1, Ordering::Relaxed);
        self.0.0.in_flight.decrement(1.0);
    }
}

/// Counts the ids of one queue that pass through Redis.
#[derive(Clone)]
pub(crate) struct RedisQueueMetrics {
    pub(crate) pushed: Counter,
    pub(crate) dropped: Counter,
    pub(crate) received: Counter,
    pub(crate) claimed: Counter,
}

impl RedisQueueMetrics {
    pub(crate) fn new(queue: &str) -> Self {
        Self {
            pushed: metrics::counter!(PUSHED, "queue" => queue.to_owned()),
            dropped: metrics::counter!(DROPPED, "queue" => queue.to_owned()),
            received: metrics::counter!(RECEIVED, "queue" => queue.to_owned()),
            claimed: metrics::counter!(CLAIMED, "queue" => queue.to_owned()),
        }
    }
}

/// The gauge that shows whether Redis answers.
pub(crate) fn redis_up() -> Gauge {
    metrics::gauge!(REDIS_UP)
}
