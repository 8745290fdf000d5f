//! When this process looks for sagas at steps that it does not know, which it can only park.
//!
//! Being overdue does not mean that nobody knows them: after a pause, an outage of all workers, or in a backlog everything
//! is. So a process looks only behind all that it knows, seldom, and not before it has worked on the queue for as long
//! as such sagas have to be overdue: in that time those who know them, as in a rolling deployment, have come.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How often it looks at the most.
const PERIOD: Duration = Duration::from_secs(5);

/// When each queue is looked at.
#[derive(Debug, Default)]
pub(crate) struct Strangers {
    by_queue: Mutex<HashMap<String, Looks>>,
}

#[derive(Clone, Copy, Debug)]
struct Looks {
    since: Instant,
    next: Instant,
}

impl Strangers {
    /// Whether it is time to look, now that a claim found less than there was room for; if so, the next look is a while
    /// away. The first such claim in a queue begins the time that must pass.
    pub(crate) fn are_due(&self, queue: &str, patience: Duration) -> bool {
        let now = Instant::now();
        let mut by_queue = self.by_queue.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(looks) = by_queue.get_mut(queue) else {
            by_queue.insert(queue.into(), Looks { since: now, next: now + patience });
            return patience.is_zero();
        };
        let due = now >= looks.next && now.duration_since(looks.since) >= patience;
        if due {
            looks.next = now + PERIOD.min(patience);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_worked_on_for_a_while_before_strangers_are_looked_for_and_then_now_and_then() {
        let strangers = Strangers::default();
        let patience = Duration::from_millis(30);
        assert!(!strangers.are_due("default", patience), "it has only just come");
        let began = Instant::now();
        while !strangers.are_due("default", patience) {
            std::thread::yield_now();
        }
        assert!(began.elapsed() >= Duration::from_millis(29));
        assert!(!strangers.are_due("default", patience), "not again at once");
        assert!(!strangers.are_due("notifications", patience), "each queue has a time of its own");
    }
}
