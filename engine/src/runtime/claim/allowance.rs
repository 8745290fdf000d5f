//! How many sagas a throttled queue may claim, and the slot of its single probe.

use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use crate::runtime::{
    core::Core,
    queue::{feeds::QueueState, throttle::Allowance},
    slots::ProbeSlot,
};

/// How much of a queue its throttle lets one claim take.
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

    /// Returns the probe's slot if a saga was found for it; otherwise frees the slot without waking the claim loop.
    pub(super) fn probe(self, state: &QueueState, found: usize) -> Option<ProbeSlot> {
        match self {
            Self::Probe(permit) if found > 0 => {
                Some(ProbeSlot { permit: Some(permit), signals: state.signals.clone() })
            }
            Self::Unlimited | Self::Probe(_) => None,
        }
    }
}

/// Asks the throttle of a queue. An `Err` is the time for which nothing may be claimed.
pub(super) fn budget(core: &Core, state: &QueueState) -> Result<ClaimBudget, Duration> {
    match core.feeds.throttles.allowance(state.queue()) {
        Allowance::Unlimited => Ok(ClaimBudget::Unlimited),
        Allowance::Probe => {
            let slot = state.probe.clone().try_acquire_owned();
            slot.map(ClaimBudget::Probe).map_err(|_| core.settings.poll)
        }
        Allowance::Blocked(wait) => Err(wait),
    }
}
