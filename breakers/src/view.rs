//! What a breaker tells about itself.

use std::{str::FromStr, time::Duration};

use crate::{BreakerSettings, Dependency};

/// What a breaker does with the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BreakerState {
    /// It lets calls through.
    Closed,
    /// It lets one call at a time through, to see.
    HalfOpen,
    /// It holds calls back.
    Open,
}

impl BreakerState {
    /// All of them, the best first.
    pub const ALL: [Self; 3] = [Self::Closed, Self::HalfOpen, Self::Open];

    /// `closed`, `half_open` or `open`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

impl FromStr for BreakerState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|state| state.name() == text)
            .ok_or_else(|| format!("`{text}` is no state of a breaker"))
    }
}

/// What the next call of a dependency may expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// It is let through, and so are others beside it.
    Allowed,
    /// It alone is let through, to see.
    Probe,
    /// It is held back for so long, or until the probe under way is over.
    Denied(Duration),
}

/// A breaker at one moment. Times are counted from that moment, because processes agree on no clock but the database's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerView {
    /// What is called.
    pub dependency: Dependency,
    /// What happens to the next call.
    pub state: BreakerState,
    /// Failures in a row.
    pub failures: u32,
    /// How long ago the outage opened it; `None` while it is closed.
    pub opened_ago: Option<Duration>,
    /// When the next call is let through to see; `None` while it is closed.
    pub next_probe_in: Option<Duration>,
    /// How it is set.
    pub settings: BreakerSettings,
}
