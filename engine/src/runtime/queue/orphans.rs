//! Decides when this process claims orphaned sagas: those whose definition or step it has not registered. It can only
//! dead-letter them, so it first gives a process that knows them `orphan_grace` to appear, and then scans every 5 s at most.
//!
//! Being overdue does not mean that nobody knows them: after a pause, an outage of all workers, or in a backlog everything
//! is. So a process looks only behind all that it knows, seldom, and not before it has worked on the queue for as long
//! as such sagas have to be overdue: in that time those who know them, as in a rolling deployment, have come.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// How often it looks at the most.
const SCAN_INTERVAL: Duration = Duration::from_secs(5);

/// When each queue is looked at.
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
    /// Whether it is time to look, now that a claim found less than there was room for; if so, the next look is a while
    /// away. The first such claim in a queue begins the time that must pass.
    pub(crate) fn is_due(&self, queue: &str, grace: Duration) -> bool {
        self.is_due_at(Instant::now(), queue, grace)
    }

    fn is_due_at(&self, now: Instant, queue: &str, grace: Duration) -> bool {
        let mut by_queue = self.by_queue.lock();
        let Some(looks) = by_queue.get_mut(queue) else {
            by_queue.insert(queue.into(), ScanTimes { since: now, next: now + grace });
            return grace.is_zero();
        };
        let due = now >= looks.next && now.duration_since(looks.since) >= grace;
        if due {
            looks.next = now + SCAN_INTERVAL.min(grace);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_worked_on_for_a_while_before_orphans_are_looked_for_and_then_now_and_then() {
        let orphans = OrphanScan::default();
        let (began, grace) = (Instant::now(), Duration::from_mins(5));
        let is_due = |queue, after_s| orphans.is_due_at(began + Duration::from_secs(after_s), queue, grace);
        assert!(!is_due("default", 0), "it has only just come");
        assert!(!is_due("default", 299));
        assert!(is_due("default", 300));
        assert!(!is_due("default", 304), "not again at once");
        assert!(is_due("default", 305));
        assert!(!is_due("notifications", 600), "each queue has a time of its own");
    }
}
