//! When a breaker opens, and how it closes.

use std::time::Duration;

/// When a breaker opens, for how long, and what closes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// So many failures in a row open it; at least one.
    pub failures: u32,
    /// So long nothing is tried then.
    pub open_duration: Duration,
    /// So many trial calls, made one after the other, have to succeed before all are let through again; at least one.
    pub successes_to_close: u32,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self { failures: 5, open_duration: Duration::from_secs(10), successes_to_close: 1 }
    }
}
