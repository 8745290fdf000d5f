//! Slots: the capacity that jobs take up in the feed of their queue.

use std::{sync::Arc, time::Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit};

/// Wakes the claim loop of a queue. The slots of the queue's jobs hold it, and notify it when they are freed.
#[derive(Debug)]
pub(crate) struct QueueSignals {
    pub(crate) queue: Arc<str>,
    pub(crate) wake: Notify,
    pub(crate) probation_ended: Notify,
    /// When to look for the next saga on probation.
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

/// The capacity that a job takes up in its feed.
#[derive(Debug, Default)]
pub(crate) struct JobSlots {
    pub(crate) slot: Option<OwnedSemaphorePermit>,
    #[expect(dead_code, reason = "kept for its effect when dropped")]
    pub(crate) probation: Option<ProbationSlot>,
    pub(crate) probe: Option<ProbeSlot>,
}

impl JobSlots {
    /// Frees the slot, so that the feed can claim another saga in its place.
    pub(crate) fn free(&mut self) {
        self.slot = None;
    }

    /// Whether this job is the probe of a throttled queue.
    pub(crate) fn is_probe(&self) -> bool {
        self.probe.is_some()
    }
}

/// The slot of a throttled queue's single probe. When it is freed, the throttle is asked again.
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

/// The slot of a queue's single saga on probation. When it is freed, the next one is claimed.
pub(crate) struct ProbationSlot {
    pub(crate) permit: Option<OwnedSemaphorePermit>,
    pub(crate) signals: Arc<QueueSignals>,
}

impl Drop for ProbationSlot {
    fn drop(&mut self) {
        self.permit = None;
        *self.signals.next_probation.lock() = Instant::now();
        // Wakes the claim loop, which may wait for either of the two.
        self.signals.probation_ended.notify_one();
        self.signals.wake.notify_one();
    }
}

impl std::fmt::Debug for ProbationSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProbationSlot").field("queue", &self.signals.queue).finish_non_exhaustive()
    }
}
