//! An event of the log, and pages of them.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::value::RawValue;
use sqlx::types::Json;
use sqlx_macros::FromRow;

/// An event as its consumers get it.
#[derive(Debug, FromRow)]
pub struct Event {
    /// Its number in the log: unique, growing, without gaps.
    pub event_id: i64,
    /// When the change that it tells was made.
    pub at: DateTime<Utc>,
    /// What happened, such as `order.confirmed`.
    pub routing_key: String,
    /// What it happened to (an order's id, a SKU); events with the same key come in the order in which they happened.
    pub key: String,
    /// What it tells, as JSON.
    payload: Json<Box<RawValue>>,
}

impl Event {
    /// [`Event::at`] in RFC 3339, to the microsecond.
    pub fn at_rfc3339(&self) -> String {
        self.at.to_rfc3339_opts(SecondsFormat::Micros, true)
    }

    /// What it tells, as JSON on one line.
    pub fn payload(&self) -> &str {
        self.payload.0.get()
    }
}

/// How much is read at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSize {
    /// The most events.
    pub events: u32,
    /// With the event that brings the payloads to this many bytes, the page ends.
    pub bytes: u32,
}

/// Events that follow each other.
#[derive(Debug, Default)]
pub struct EventPage {
    /// In the order of their ids.
    pub events: Vec<Event>,
    /// Whether its size ended it, so that there may be more.
    pub is_full: bool,
}

/// Which part of the log there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromRow)]
pub struct LogRange {
    /// The event before the oldest that is kept: whoever has it can read on.
    pub pruned_through: i64,
    /// The newest.
    pub last_event_id: i64,
}
