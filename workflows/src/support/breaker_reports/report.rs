//! What a process reports of its breakers.

use std::{str::FromStr, time::Duration};

use breakers::BreakerState;
use chrono::{DateTime, Utc};
use sqlx_macros::FromRow;
use uuid::Uuid;

use crate::support::text_column::text_column;

/// A process that tells of its breakers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process<'a> {
    /// Fresh at every start.
    pub id: Uuid,
    /// What it is, such as `work`.
    pub name: &'a str,
}

/// One process's breaker, as it told last.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct ReportedBreaker {
    /// The process.
    pub process_id: Uuid,
    /// What it is, such as `work`.
    pub process: String,
    /// What it calls, such as `smtp`.
    pub dependency: String,
    /// What happens to its next call.
    pub state: ReportedState,
    /// Failures in a row.
    pub failures: i64,
    /// When the outage opened it.
    pub opened_at: Option<DateTime<Utc>>,
    /// When the next call is let through to see.
    pub next_probe_at: Option<DateTime<Utc>>,
    /// So many failures in a row open it.
    pub threshold: i64,
    /// So many milliseconds nothing is tried then.
    pub open_ms: i64,
    /// So many trial calls have to succeed to close it.
    pub probes: i64,
    /// When it changed its state last.
    pub changed_at: DateTime<Utc>,
    /// When the process told last.
    pub seen_at: DateTime<Utc>,
}

/// A stored [`BreakerState`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReportedState(pub BreakerState);

impl FromStr for ReportedState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self)
    }
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

text_column!(ReportedState);
