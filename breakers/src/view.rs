//! The states, permissions and snapshots of a breaker.

use std::time::Duration;

use strum::VariantArray;

use crate::{dependency::Dependency, settings::BreakerSettings};

/// The state of a breaker, which decides what happens to the next call.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, strum::EnumString, strum::IntoStaticStr, VariantArray,
)]
#[strum(serialize_all = "snake_case", parse_err_ty = String, parse_err_fn = unknown_state)]
pub enum BreakerState {
    /// Every call is allowed.
    Closed,
    /// One probe at a time is allowed.
    HalfOpen,
    /// No call is allowed.
    Open,
}

impl BreakerState {
    /// All states, in the order of their declaration.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The name that is stored and shown: `closed`, `half_open` or `open`.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

fn unknown_state(text: &str) -> String {
    format!("`{text}` is not a state of a breaker")
}

/// What would happen to a call that is made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// The call is allowed, and so are others at the same time.
    Allowed,
    /// The call is allowed as the only one, to find out whether the dependency works again.
    Probe,
    /// The call is denied for this long, or until the probe in progress has ended.
    Denied(Duration),
}

/// A breaker at one moment. Times are relative to that moment, because processes agree on no clock but the database's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerView {
    /// The dependency behind the breaker.
    pub dependency: Dependency,
    /// The breaker's state.
    pub state: BreakerState,
    /// Consecutive failures so far.
    pub failures: u32,
    /// How long ago the current outage opened the breaker; `None` while it is closed.
    pub opened_ago: Option<Duration>,
    /// The time until the next probe is allowed; `None` while the breaker is closed.
    pub next_probe_in: Option<Duration>,
    /// The breaker's settings.
    pub settings: BreakerSettings,
}
