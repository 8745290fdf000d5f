//! What a throttle leaves of a claim, and the place of the one saga that it lets through to try with.

use std::{sync::Arc, time::Duration};

use tokio::sync::OwnedSemaphorePermit;

use super::Shared;
use crate::{engine::Inner, throttle::Allowance};

/// What the throttle of a queue lets one claim take.
pub(super) enum Leave {
    Everything,
    One(OwnedSemaphorePermit),
}

impl Leave {
    pub(super) fn is_trial(&self) -> bool {
        match self {
            Self::Everything => false,
            Self::One(_) => true,
        }
    }

    pub(super) fn most(&self, usual: usize) -> usize {
        match self {
            Self::Everything => usual,
            Self::One(_) => 1,
        }
    }

    /// The place of the one that was found; if none was, it is free again, and nobody is woken.
    pub(super) fn trial(self, feed: &Arc<Shared>, found: usize) -> Option<Trial> {
        match self {
            Self::One(permit) if found > 0 => Some(Trial { permit: Some(permit), feed: feed.clone() }),
            Self::Everything | Self::One(_) => None,
        }
    }
}

/// The place of the one saga that a throttle lets through; its end has the throttle asked again.
pub(crate) struct Trial {
    permit: Option<OwnedSemaphorePermit>,
    feed: Arc<Shared>,
}

impl Drop for Trial {
    fn drop(&mut self) {
        self.permit = None;
        self.feed.wake.notify_one();
    }
}

impl std::fmt::Debug for Trial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trial").field("queue", &self.feed.queue).finish_non_exhaustive()
    }
}

impl Shared {
    /// Asks the throttle; `Err` says for how long nothing may be claimed.
    pub(super) fn leave(&self, engine: &Inner) -> Result<Leave, Duration> {
        match engine.feeds.throttles.allowance(&self.queue) {
            Allowance::Unlimited => Ok(Leave::Everything),
            Allowance::Probe => {
                let place = self.trial.clone().try_acquire_owned();
                place.map(Leave::One).map_err(|_| engine.settings.poll)
            }
            Allowance::Blocked(wait) => Err(wait),
        }
    }
}
