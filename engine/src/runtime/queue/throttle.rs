//! Throttles: limits that user code sets on the claims of a queue, for example while the service that its calls need is
//! unavailable. Without a throttle the process would claim each saga only to snooze it.
//!
//! A throttle is asked before every claim. It does not stop sagas that this process already holds: such a saga runs its
//! transaction steps, and is released before it would make a call. Sagas that a throttle holds back stay due, so that
//! another process may claim them, and this process does as soon as the throttle admits them.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::RwLock;

/// The queues that this process works on now.
pub(crate) type OpenQueues = Arc<HashSet<Arc<str>>>;

/// How much of a queue this process may claim now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// As many sagas as there are free slots.
    Unlimited,
    /// One saga as a probe; when it is committed, the next one.
    Probe,
    /// Nothing for this long.
    Blocked(Duration),
}

/// A function that returns how much of a queue this process may claim now. It is called often and during claims, so it
/// must return at once, from memory.
pub type Throttle = Arc<dyn Fn() -> Allowance + Send + Sync>;

/// The queues whose sagas this process may continue with. In a throttled queue it continues only with steps that make
/// no call.
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

    /// The queues whose throttle is not `Unlimited` now.
    pub(crate) fn throttled(&self) -> BTreeSet<Arc<str>> {
        let throttles = self.by_queue.read().clone();
        throttles
            .into_iter()
            .filter(|(_, throttle)| throttle() != Allowance::Unlimited)
            .map(|(queue, _)| queue)
            .collect()
    }
}
