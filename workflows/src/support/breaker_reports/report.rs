//! Reports of circuit breakers.

use std::{str::FromStr, time::Duration};

use breakers::BreakerState;
use chrono::{DateTime, Utc};
use sqlx_macros::FromRow;
use uuid::Uuid;

use crate::support::text_column::text_column;

/// A process that reports its breakers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process<'a> {
    /// The process's id, new at every start.
    pub id: Uuid,
    /// The kind of process, such as `work`.
    pub name: &'a str,
}

/// One breaker of one process, as last reported.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct ReportedBreaker {
    /// The process's id.
    pub process_id: Uuid,
    /// The kind of process, such as `work`.
    pub process: String,
    /// The external service behind the breaker, such as `smtp`.
    pub dependency: String,
    /// The state of the breaker.
    pub state: ReportedState,
    /// Consecutive failures so far.
    pub failures: i64,
    /// When the current outage opened the breaker.
    pub opened_at: Option<DateTime<Utc>>,
    /// When the next probe is allowed.
    pub next_probe_at: Option<DateTime<Utc>>,
    /// Consecutive failures that open the breaker.
    pub threshold: i64,
    /// How long the breaker stays open until a probe, in milliseconds.
    pub open_ms: i64,
    /// Consecutive successful probes that close the breaker.
    pub probes: i64,
    /// When the state last changed.
    pub changed_at: DateTime<Utc>,
    /// When the process last reported.
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
