//! The names of the edge's metrics, and what each means.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram};

use super::{outbox, snapshots};

pub(super) const HTTP_REQUESTS: &str = "sagaline_http_requests_total";
pub(crate) const IN_FLIGHT: &str = "sagaline_http_requests_in_flight";
pub(super) const HTTP_DURATION: &str = "sagaline_http_request_duration_seconds";

pub(crate) const QUEUE_DEPTH: &str = "sagaline_queue_depth";
pub(crate) const QUEUE_OLDEST: &str = "sagaline_queue_oldest_due_seconds";
pub(crate) const SAGAS: &str = "sagaline_sagas";
pub(crate) const SAGAS_WAITING: &str = "sagaline_sagas_waiting";
pub(crate) const SAGAS_WAITING_OLDEST: &str = "sagaline_sagas_waiting_oldest_seconds";
pub(crate) const SIGNALS_KEPT: &str = "sagaline_signals_kept";
pub(crate) const SIGNALS_KEPT_OLDEST: &str = "sagaline_signals_kept_oldest_seconds";
pub(crate) const NOTED_CANCELS_OLDEST: &str = "sagaline_noted_cancels_oldest_seconds";
pub(crate) const POOL: &str = "sagaline_db_pool_connections";
pub(crate) const POOL_LIMIT: &str = "sagaline_db_pool_connections_max";
pub(crate) const STREAMS: &str = "sagaline_event_streams";
pub(crate) const STREAMS_DROPPED: &str = "sagaline_event_streams_ended_total";
pub(crate) const QUEUE_PAUSED: &str = "sagaline_queue_paused";
pub(crate) const SCRAPE_FAILURES: &str = "sagaline_scrape_failures_total";

/// Describes the metrics to the recorder; call it once, after the recorder is installed.
pub fn describe_metrics() {
    describe_counter!(HTTP_REQUESTS, Unit::Count, "Requests answered, by method, route and status");
    describe_histogram!(
        HTTP_DURATION,
        Unit::Seconds,
        "From a request's head to its answer, by method and route"
    );
    describe_gauge!(QUEUE_DEPTH, Unit::Count, "Sagas in a queue, by state: due, waiting, leased");
    describe_gauge!(QUEUE_OLDEST, Unit::Seconds, "How long the oldest due saga of a queue has waited");
    describe_gauge!(SAGAS, Unit::Count, "Sagas that are unfinished or dead, by definition and status");
    describe_gauge!(
        SAGAS_WAITING,
        Unit::Count,
        "Sagas that wait for something besides their due time, by what they wait for: sleep (a time), \
             signal (a message, \
         or a time), children (their ends), version (a process that knows their graph), lock (one that another \
         transaction holds, or their turn at a slow step); child_version counts those again of which a child waits \
         for a \
         version"
    );
    describe_gauge!(
        SAGAS_WAITING_OLDEST,
        Unit::Seconds,
        "For how long the oldest saga has been waiting, by what it waits for: sleep, signal, children; 0 if none is"
    );
    describe_gauge!(
        SIGNALS_KEPT,
        Unit::Count,
        "Signals that no saga has taken yet, by their name and state: buffered, unreadable"
    );
    describe_gauge!(
        SIGNALS_KEPT_OLDEST,
        Unit::Seconds,
        "How long ago the oldest signal was sent that no saga has taken yet, by its name; 0 if there is none"
    );
    describe_gauge!(
        NOTED_CANCELS_OLDEST,
        Unit::Seconds,
        "How long the oldest noted cancel has been waiting for a saga that another transaction holds; 0 if none is"
    );
    describe_gauge!(
        POOL,
        Unit::Count,
        "Database connections that this process has open, by state: idle, used"
    );
    describe_gauge!(POOL_LIMIT, Unit::Count, "How many database connections this process may have open");
    describe_gauge!(IN_FLIGHT, Unit::Count, "Requests under `/api` that are being answered");
    describe_gauge!(QUEUE_PAUSED, "1 while a queue is paused, 0 while it is worked on");
    describe_counter!(
        SCRAPE_FAILURES,
        Unit::Count,
        "Scrapes whose queue and saga figures could not be read and are those of before"
    );
    counter!(SCRAPE_FAILURES).absolute(0);
    describe_gauge!(STREAMS, Unit::Count, "Open streams of events");
    describe_counter!(
        STREAMS_DROPPED,
        Unit::Count,
        "Streams of events that the server ended, by reason: slow, pruned, database_unavailable, age, key, stop"
    );
    outbox::describe();
    snapshots::describe();
    metrics_process::Collector::default().describe();
}
