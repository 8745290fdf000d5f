//! The engine's settings.

use std::time::Duration;

/// The engine's settings; the defaults suit production.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) lease: Duration,
    pub(crate) max_batch: usize,
    pub(crate) poll: Duration,
    /// How soon the database is asked for a saga that a caller waits for, when nobody tells ends.
    pub(crate) end_poll: Duration,
    /// How long a saga that is unknown to this process must be overdue before the process claims and dead-letters it.
    pub(crate) orphan_grace: Duration,
}

impl Settings {
    /// How long one batch of several sagas may run in a transaction. Its leases are not extended during that time, and
    /// must last until a failed batch is retried.
    pub(crate) fn batch_time_limit(&self) -> Duration {
        (self.lease / 4).max(Duration::from_secs(2))
    }

    /// How long background tasks wait for the database's answer before they take the connection for dead.
    pub(crate) fn db_timeout(&self) -> Duration {
        (self.lease / 3).clamp(Duration::from_secs(1), Duration::from_secs(10))
    }
}
