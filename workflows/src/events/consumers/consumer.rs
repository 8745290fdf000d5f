//! A consumer of the log, and the lease to publish to it.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx_macros::FromRow;

/// The right to publish to one target, for as long as its lease is renewed.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct ConsumerLease {
    /// The target's name.
    pub name: String,
    /// The fence: what is done under an older epoch changes nothing.
    pub epoch: i64,
    /// The last event that the target has confirmed.
    pub last_event_id: i64,
    /// The event after which the target began to be filled.
    pub started_after: i64,
    /// When it began, in milliseconds since 1970.
    pub series: i64,
    /// The series before this one, if the target has confirmed anything in it.
    pub previous_series: Option<i64>,
    /// The last event that the target has confirmed in that one.
    pub previous_event_id: Option<i64>,
}

/// A registered target.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct Consumer {
    /// Its name.
    pub name: String,
    /// The last event that it has confirmed.
    pub last_event_id: i64,
    /// Whether a process publishes to it now.
    pub claimed: bool,
    /// When it was first heard of.
    pub registered_at: DateTime<Utc>,
    /// When its position last changed.
    pub updated_at: DateTime<Utc>,
}

/// How far a target is, and in which series.
#[derive(Debug, FromRow)]
pub(crate) struct ConsumerPosition {
    pub(crate) last_event_id: i64,
    series: i64,
}

impl ConsumerPosition {
    /// As the audit shows it.
    pub(crate) fn audit_json(&self) -> Value {
        json!({"last_event_id": self.last_event_id, "series": self.series})
    }
}

/// Where a replay begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// With this event.
    From(i64),
    /// With the first event of this time or later.
    Since(DateTime<Utc>),
}

impl FromStr for Replay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(event_id) = text.parse::<i64>()
            && event_id > 0
        {
            return Ok(Self::From(event_id));
        }
        let time = DateTime::parse_from_rfc3339(text);
        time.map(|time| Self::Since(time.to_utc()))
            .map_err(|_| "neither an event's id nor a time such as 2026-11-22T10:00:00Z".into())
    }
}
