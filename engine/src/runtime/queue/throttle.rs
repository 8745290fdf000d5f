//! Throttles: whoever calls the outside world may know that it is away, and then has this process leave the sagas of a
//! queue where they are instead of claiming each only to snooze it.
//!
//! A throttle is asked before every claim. It holds up no saga that this process has: that one goes on through its
//! transaction steps, and is given back before it would make a call. What a throttle holds back stays due, so that any
//! other process may claim it, and this one does as soon as the throttle lets it.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::RwLock;

/// The queues that this process works on now.
pub(crate) type OpenQueues = Arc<HashSet<Arc<str>>>;

/// How much of a queue a process may claim now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// As much as there is room for.
    Unlimited,
    /// One saga, to try with, and the next one when that one has been committed.
    Probe,
    /// Nothing, for so long.
    Blocked(Duration),
}

/// Says how much of a queue this process may claim now. It is asked often and in the middle of claims: it must answer at
/// once, from memory.
pub type Throttle = Arc<dyn Fn() -> Allowance + Send + Sync>;

/// Which sagas a process may go on with: those of the queues that it works on, and of those that a throttle limits only
/// as far as nothing is called.
pub(crate) struct LocalQueues {
    pub(crate) open: OpenQueues,
    pub(crate) throttled: BTreeSet<Arc<str>>,
}

/// The throttles of one process, by queue.
#[derive(Default)]
pub(crate) struct Throttles {
    by_queue: RwLock<BTreeMap<Arc<str>, Throttle>>,
}

impl Throttles {
    pub(crate) fn set(&self, queue: &str, throttle: Throttle) {
        self.by_queue.write().insert(queue.into(), throttle);
    }

    pub(crate) fn allowance(&self, queue: &str) -> Allowance {
        let throttle = self.by_queue.read().get(queue).cloned();
        throttle.map_or(Allowance::Unlimited, |throttle| throttle())
    }

    /// The queues of which not everything may be claimed now.
    pub(crate) fn throttled(&self) -> BTreeSet<Arc<str>> {
        let throttles = self.by_queue.read().clone();
        throttles
            .into_iter()
            .filter(|(_, throttle)| throttle() != Allowance::Unlimited)
            .map(|(queue, _)| queue)
            .collect()
    }
}
