//! A consumer of the event log, and the lease for publishing to it.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx_macros::FromRow;

/// The right to publish to one consumer, while its lease is renewed.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct ConsumerLease {
    /// The consumer's name.
    pub name: String,
    /// The fence: writes with an older epoch change nothing.
    pub epoch: i64,
    /// The last event that the consumer has confirmed.
    pub last_event_id: i64,
    /// The event after which the current series starts.
    pub started_after: i64,
    /// The start of the current series, in milliseconds since 1970.
    pub series: i64,
    /// The series before this one, if the consumer has confirmed an event of it.
    pub previous_series: Option<i64>,
    /// The last event that the consumer has confirmed in the previous series.
    pub previous_event_id: Option<i64>,
}

/// A registered consumer.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct Consumer {
    /// The consumer's name.
    pub name: String,
    /// The last event that it has confirmed.
    pub last_event_id: i64,
    /// Whether a process holds the lease now.
    pub claimed: bool,
    /// When it was registered.
    pub registered_at: DateTime<Utc>,
    /// When its position last changed.
    pub updated_at: DateTime<Utc>,
}

/// The position of a consumer, and its series.
#[derive(Debug, FromRow)]
pub(crate) struct ConsumerPosition {
    pub(crate) last_event_id: i64,
    series: i64,
}

impl ConsumerPosition {
    /// The audit log's JSON of a position.
    pub(crate) fn audit_json(&self) -> Value {
        json!({"last_event_id": self.last_event_id, "series": self.series})
    }
}

/// The start of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// The event with this id.
    From(i64),
    /// The first event at this time or later.
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
