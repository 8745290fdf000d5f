//! When a breaker opens, and how it closes.

use std::time::Duration;

/// When a breaker opens, for how long, and what closes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Consecutive failures that open the breaker (≥ 1).
    pub failures: u32,
    /// How long the breaker stays open before it admits a probe.
    pub open_duration: Duration,
    /// Consecutive successful probes that close the breaker (≥ 1).
    pub successes_to_close: u32,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self { failures: 5, open_duration: Duration::from_secs(10), successes_to_close: 1 }
    }
}
