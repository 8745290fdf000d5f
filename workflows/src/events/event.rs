//! Events of the event log, and pages of them.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::value::RawValue;
use sqlx::types::Json;
use sqlx_macros::FromRow;

/// An event as consumers get it.
#[derive(Debug, FromRow)]
pub struct Event {
    /// The number in the event log: unique, growing, without gaps.
    pub event_id: i64,
    /// The time of the change.
    pub at: DateTime<Utc>,
    /// What happened, such as `order.confirmed`.
    pub routing_key: String,
    /// The id of the subject, such as an order's id or a SKU. Events with the same key are in the order in which
    /// they happened.
    pub key: String,
    /// The payload, as JSON.
    payload: Json<Box<RawValue>>,
}

impl Event {
    /// [`Event::at`] in RFC 3339, to the microsecond.
    pub fn at_rfc3339(&self) -> String {
        self.at.to_rfc3339_opts(SecondsFormat::Micros, true)
    }

    /// The payload, as JSON on one line.
    pub fn payload(&self) -> &str {
        self.payload.0.get()
    }
}

/// Limits of one page of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSize {
    /// The maximum number of events on a page.
    pub events: u32,
    /// The page ends with the first event that brings the total size of its payloads to this many bytes or more.
    pub bytes: u32,
}

/// A page of consecutive events.
#[derive(Debug, Default)]
pub struct EventPage {
    /// The events, in the order of their ids.
    pub events: Vec<Event>,
    /// Whether a limit ended the page, so that more events may follow.
    pub is_full: bool,
}

/// The part of the event log that is not pruned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRange {
    /// The last pruned event. A reader that has this event or a later one can continue.
    pub pruned_through: i64,
    /// The id of the newest event.
    pub last_event_id: i64,
}
