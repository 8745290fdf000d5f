//! How an engine behaves.

use std::time::Duration;

/// How the engine behaves; the defaults suit production.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) lease: Duration,
    pub(crate) max_batch: usize,
    pub(crate) poll: Duration,
    /// How long overdue a saga must be that this process does not know, until it claims and parks it.
    pub(crate) orphan_grace: Duration,
}

impl Settings {
    /// How long one batch of several sagas may run in a transaction. Its leases are not extended meanwhile, and must
    /// outlast the trouble that it may end in.
    pub(crate) fn batch_time_limit(&self) -> Duration {
        (self.lease / 4).max(Duration::from_secs(2))
    }

    /// How long upkeep waits for the database's answer before it takes the connection for dead.
    pub(crate) fn db_timeout(&self) -> Duration {
        (self.lease / 3).clamp(Duration::from_secs(1), Duration::from_secs(10))
    }
}
