//! The slots that jobs take up in the feed of their queue.

use std::{sync::Arc, time::Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit};

/// What a queue's claims wait for. The slots of its jobs hold it, and wake the claims when they are free.
#[derive(Debug)]
pub(crate) struct QueueSignals {
    pub(crate) queue: Arc<str>,
    pub(crate) wake: Notify,
    pub(crate) probation_ended: Notify,
    /// When sagas on probation are looked for again.
    pub(crate) next_probation: Mutex<Instant>,
}

impl QueueSignals {
    pub(crate) fn new(queue: &str) -> Self {
        Self {
            queue: queue.into(),
            wake: Notify::new(),
            probation_ended: Notify::new(),
            next_probation: Mutex::new(Instant::now()),
        }
    }
}

/// The room that a job takes up in its feed.
#[derive(Debug, Default)]
pub(crate) struct JobSlots {
    #[expect(dead_code, reason = "kept for what its drop does")]
    pub(crate) slot: Option<OwnedSemaphorePermit>,
    #[expect(dead_code, reason = "kept for what its drop does")]
    pub(crate) probation: Option<ProbationSlot>,
    pub(crate) probe: Option<ProbeSlot>,
}

impl JobSlots {
    /// Whether a throttle let this one alone through.
    pub(crate) fn is_probe(&self) -> bool {
        self.probe.is_some()
    }
}

/// The slot of the one saga that a throttle lets through as a probe; its end has the throttle asked again.
pub(crate) struct ProbeSlot {
    pub(crate) permit: Option<OwnedSemaphorePermit>,
    pub(crate) signals: Arc<QueueSignals>,
}

impl Drop for ProbeSlot {
    fn drop(&mut self) {
        self.permit = None;
        self.signals.wake.notify_one();
    }
}

impl std::fmt::Debug for ProbeSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProbeSlot").field("queue", &self.signals.queue).finish_non_exhaustive()
    }
}

/// The slot of the one saga on probation that is under way; its end has the next one looked for.
pub(crate) struct ProbationSlot {
    pub(crate) permit: Option<OwnedSemaphorePermit>,
    pub(crate) signals: Arc<QueueSignals>,
}

impl Drop for ProbationSlot {
    fn drop(&mut self) {
        self.permit = None;
        *self.signals.next_probation.lock() = Instant::now();
        // Whichever of the two the claims wait for.
        self.signals.probation_ended.notify_one();
        self.signals.wake.notify_one();
    }
}

impl std::fmt::Debug for ProbationSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProbationSlot").field("queue", &self.signals.queue).finish_non_exhaustive()
    }
}
