//! The engine's settings.

use std::time::Duration;

/// The longest time between two signs of life of a process.
const MAX_HEARTBEAT: Duration = Duration::from_secs(5);
/// After how many heartbeats that it missed a process counts as gone.
const MISSED_HEARTBEATS: u32 = 6;
/// The shortest lease that a product may set.
///
/// A batch may begin on a lease that is a sixth old. Its last step may begin just before the time limit of a batch (two
/// seconds at least), and may take as long again, and so may its observers. The waits for locks are within these limits,
/// if the connections give up a lock after less than two seconds. With a shorter lease a slow batch would outlast the
/// leases of its sagas, and other processes would take them over.
pub const SHORTEST_LEASE: Duration = Duration::from_secs(8);

/// The engine's settings; the defaults suit production.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) lease: Duration,
    pub(crate) max_batch: usize,
    pub(crate) poll: Duration,
    /// How soon the database is asked for a saga that a caller waits for, when nobody tells ends.
    pub(crate) end_poll: Duration,
    /// How long a saga must be overdue before it is set aside because no live process knows its step.
    pub(crate) unknown_grace: Duration,
    /// The shortest time between two sweeps.
    pub(crate) sweep: Duration,
    /// The largest input or output, in bytes of what is stored.
    pub(crate) max_payload: usize,
}

/// What a process tells others of itself.
#[derive(Clone, Debug)]
pub(crate) struct ProcessInfo {
    pub(crate) host: String,
    pub(crate) pid: i32,
    pub(crate) version: String,
    pub(crate) role: String,
}

impl ProcessInfo {
    /// This process, in this role.
    pub(crate) fn of(role: &str, version: &str) -> Self {
        let host =
            hostname::get().map_or_else(|_| "unknown".into(), |host| host.to_string_lossy().into_owned());
        Self {
            host,
            pid: i32::try_from(std::process::id()).unwrap_or_default(),
            version: version.into(),
            role: role.into(),
        }
    }
}

impl Settings {
    /// How long one batch of several sagas may run in a transaction. Its leases are not extended during that time, and
    /// must last until a failed batch is retried.
    pub(crate) fn batch_time_limit(&self) -> Duration {
        batch_time_limit(self.lease)
    }

    /// How often the process tells that it lives. However long its leases are, others learn soon that it is gone.
    pub(crate) fn heartbeat(&self) -> Duration {
        (self.lease / 2).min(MAX_HEARTBEAT)
    }

    /// For how long a process counts as alive that does not tell, in milliseconds.
    pub(crate) fn alive_ms(&self) -> i64 {
        i64::try_from((self.heartbeat() * MISSED_HEARTBEATS).as_millis()).unwrap_or(i64::MAX)
    }

    /// How long a part of a batch that is being split may run in a transaction. The other parts wait for it.
    pub(crate) fn part_time_limit(&self) -> Duration {
        self.batch_time_limit() / 5
    }

    /// How long background tasks wait for the database's answer before they take the connection for dead.
    pub(crate) fn db_timeout(&self) -> Duration {
        (self.lease / 3).clamp(Duration::from_secs(1), Duration::from_secs(10))
    }
}

fn batch_time_limit(lease: Duration) -> Duration {
    (lease / 4).max(Duration::from_secs(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_ends_within_its_leases_from_the_shortest_lease_on() {
        let fits = |seconds| {
            let lease = Duration::from_secs(seconds);
            lease / 6 + batch_time_limit(lease) * 3 <= lease
        };
        let shortest = SHORTEST_LEASE.as_secs();
        assert!((shortest..=3600).all(fits));
        assert!(!fits(shortest - 1));
    }
}
