//! Gauges of the outbox: events that wait, and how far each consumer has come.

use std::collections::BTreeSet;

use metrics::{Unit, describe_gauge, gauge};
use parking_lot::Mutex;
use shop::events::Lag;

const WAITING_EVENTS: &str = "sagaline_outbox_waiting_events";
const WAITING_SECONDS: &str = "sagaline_outbox_waiting_seconds";
const KEPT_EVENTS: &str = "sagaline_outbox_kept_events";
const LAG_EVENTS: &str = "sagaline_outbox_lag_events";
const LAG_SECONDS: &str = "sagaline_outbox_lag_seconds";

/// Consumers that were recorded. One that is removed is recorded as having no lag, because a gauge keeps its last
/// value.
static REPORTED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

pub(super) fn describe() {
    describe_gauge!(
        WAITING_EVENTS,
        Unit::Count,
        "Committed events that have no number yet, counted up to 100,000"
    );
    describe_gauge!(WAITING_SECONDS, Unit::Seconds, "How long the oldest of them has waited");
    describe_gauge!(KEPT_EVENTS, Unit::Count, "Events in the log");
    describe_gauge!(LAG_EVENTS, Unit::Count, "Events that a consumer has not confirmed");
    describe_gauge!(
        LAG_SECONDS,
        Unit::Seconds,
        "How old the oldest event is that a consumer has not confirmed"
    );
}

pub(super) fn record(lag: &Lag) {
    gauge!(WAITING_EVENTS).set(figure(lag.waiting_events));
    gauge!(WAITING_SECONDS).set(lag.waiting_seconds.max(0.0));
    gauge!(KEPT_EVENTS).set(figure(lag.kept_events));
    let mut reported = REPORTED.lock();
    let mut gone = reported.clone();
    for consumer in &lag.consumers {
        gone.remove(&consumer.name);
        reported.insert(consumer.name.clone());
        gauge!(LAG_EVENTS, "consumer" => consumer.name.clone()).set(figure(consumer.events));
        gauge!(LAG_SECONDS, "consumer" => consumer.name.clone()).set(consumer.seconds.max(0.0));
    }
    for name in gone {
        gauge!(LAG_EVENTS, "consumer" => name.clone()).set(0.0);
        gauge!(LAG_SECONDS, "consumer" => name).set(0.0);
    }
}

fn figure(count: i64) -> f64 {
    u32::try_from(count.max(0)).map_or(f64::from(u32::MAX), f64::from)
}
