//! Gauges of the snapshots that keep vacuum from removing dead rows.

use std::sync::Once;

use metrics::{Unit, describe_gauge, gauge};
use shop::snapshots::OldestSnapshots;

const OLDEST_SECONDS: &str = "sagaline_db_oldest_snapshot_seconds";
const REPLICATION_TRANSACTIONS: &str = "sagaline_db_replication_snapshot_transactions";

pub(super) fn describe() {
    describe_gauge!(
        OLDEST_SECONDS,
        Unit::Seconds,
        "How long the oldest transaction has been open that keeps vacuum from removing dead rows; NaN if it can't be seen"
    );
    describe_gauge!(
        REPLICATION_TRANSACTIONS,
        Unit::Count,
        "How many transactions old the oldest snapshot is that a standby or a replication slot keeps"
    );
}

pub(super) fn record(oldest: &OldestSnapshots) {
    if oldest.seconds.is_none() {
        static HIDDEN: Once = Once::new();
        HIDDEN.call_once(|| {
            tracing::warn!(
                "the ages of other roles' transactions can't be seen; grant pg_read_all_stats to the role in DATABASE_URL"
            );
        });
    }
    gauge!(OLDEST_SECONDS).set(oldest.seconds.unwrap_or(f64::NAN));
    // Prometheus keeps 53 bits, and the age of a transaction id has 31.
    let transactions = u32::try_from(oldest.replication_transactions.max(0)).unwrap_or(u32::MAX);
    gauge!(REPLICATION_TRANSACTIONS).set(f64::from(transactions));
}
