//! How many sagas a throttled queue may claim, and the slot of its single probe.

use std::{sync::Arc, time::Duration};

use tokio::sync::OwnedSemaphorePermit;

use crate::runtime::claim::feed::QueueState;
use crate::{engine::Core, runtime::queue::throttle::Allowance};

/// What the throttle of a queue lets one claim take.
pub(super) enum ClaimBudget {
    Unlimited,
    Probe(OwnedSemaphorePermit),
}

impl ClaimBudget {
    pub(super) fn is_probe(&self) -> bool {
        match self {
            Self::Unlimited => false,
            Self::Probe(_) => true,
        }
    }

    pub(super) fn max(&self, limit: usize) -> usize {
        match self {
            Self::Unlimited => limit,
            Self::Probe(_) => 1,
        }
    }

    /// The slot of the probe that was found; if none was, the slot is free again, and no claim is woken.
    pub(super) fn probe(self, feed: &Arc<QueueState>, found: usize) -> Option<ProbeSlot> {
        match self {
            Self::Probe(permit) if found > 0 => Some(ProbeSlot { permit: Some(permit), feed: feed.clone() }),
            Self::Unlimited | Self::Probe(_) => None,
        }
    }
}

/// The slot of the one saga that a throttle lets through as a probe; its end has the throttle asked again.
pub(crate) struct ProbeSlot {
    permit: Option<OwnedSemaphorePermit>,
    feed: Arc<QueueState>,
}

impl Drop for ProbeSlot {
    fn drop(&mut self) {
        self.permit = None;
        self.feed.wake.notify_one();
    }
}

impl std::fmt::Debug for ProbeSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProbeSlot").field("queue", &self.feed.queue).finish_non_exhaustive()
    }
}

impl QueueState {
    /// Asks the throttle; `Err` says for how long nothing may be claimed.
    pub(super) fn budget(&self, core: &Core) -> Result<ClaimBudget, Duration> {
        match core.feeds.throttles.allowance(&self.queue) {
            Allowance::Unlimited => Ok(ClaimBudget::Unlimited),
            Allowance::Probe => {
                let slot = self.probe.clone().try_acquire_owned();
                slot.map(ClaimBudget::Probe).map_err(|_| core.settings.poll)
            }
            Allowance::Blocked(wait) => Err(wait),
        }
    }
}
