//! Decides when this process claims orphaned sagas: those whose definition or step it has not registered. It can only
//! dead-letter them, so it first gives a process that knows them `orphan_grace` to appear, and then scans every 5 s at most.
//!
//! A saga that is overdue is not necessarily unknown to every process: after a pause, an outage of all workers or in a
//! backlog, every saga is overdue. So a process scans for orphans only when no other saga is due, and only after it has
//! itself worked on the queue for the grace period. In that time processes that know the sagas have started, as in a
//! rolling deployment.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// The shortest time between two scans of a queue.
const SCAN_INTERVAL: Duration = Duration::from_secs(5);

/// The times of the next scans, by queue.
#[derive(Debug, Default)]
pub(crate) struct OrphanScan {
    by_queue: Mutex<HashMap<String, ScanTimes>>,
}

#[derive(Clone, Copy, Debug)]
struct ScanTimes {
    since: Instant,
    next: Instant,
}

impl OrphanScan {
    /// Whether a scan is due, called when a claim found fewer sagas than it had slots for. If so, the next scan is
    /// [`SCAN_INTERVAL`] later. The first call for a queue starts its grace period.
    pub(crate) fn is_due(&self, queue: &str, grace: Duration) -> bool {
        self.is_due_at(Instant::now(), queue, grace)
    }

    fn is_due_at(&self, now: Instant, queue: &str, grace: Duration) -> bool {
        let mut by_queue = self.by_queue.lock();
        let Some(times) = by_queue.get_mut(queue) else {
            by_queue.insert(queue.into(), ScanTimes { since: now, next: now + grace });
            return grace.is_zero();
        };
        let due = now >= times.next && now.duration_since(times.since) >= grace;
        if due {
            times.next = now + SCAN_INTERVAL.min(grace);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orphans_are_scanned_for_only_after_the_grace_period_and_then_at_intervals() {
        let orphans = OrphanScan::default();
        let (began, grace) = (Instant::now(), Duration::from_mins(5));
        let is_due = |queue, after_s| orphans.is_due_at(began + Duration::from_secs(after_s), queue, grace);
        assert!(!is_due("default", 0), "the grace period has just begun");
        assert!(!is_due("default", 299));
        assert!(is_due("default", 300));
        assert!(!is_due("default", 304), "not again at once");
        assert!(is_due("default", 305));
        assert!(!is_due("notifications", 600), "each queue has its own grace period");
    }
}
