//! Queues as people see and pause them.

use chrono::{DateTime, Utc};
use serde::Serialize;

/// Why a queue is paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause<'a> {
    /// Who pauses it.
    pub actor: &'a str,
    /// What for.
    pub reason: &'a str,
}

/// A queue, whether it is paused, and what waits in it.
#[derive(Clone, Debug, Serialize)]
pub struct QueueView {
    /// Its name.
    pub name: String,
    /// Whether nothing is claimed in it.
    pub paused: bool,
    /// Who paused it.
    pub paused_by: Option<String>,
    /// What for.
    pub reason: Option<String>,
    /// When it was paused or resumed last; `None` if it never was.
    pub since: Option<DateTime<Utc>>,
    /// Sagas that could move now and are not being worked on.
    pub due: i64,
    /// Sagas that wait for a later time.
    pub waiting: i64,
    /// Sagas being worked on.
    pub leased: i64,
    /// How long the oldest due one has waited.
    pub oldest_due_ms: i64,
    /// As [`QueueSetting::version`].
    pub version: i64,
}

/// How a queue is set, by whom and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSetting {
    /// Whether nothing is claimed in it.
    pub paused: bool,
    /// Who paused it.
    pub paused_by: Option<String>,
    /// What for.
    pub reason: Option<String>,
    /// How often it was set; 0 if it never was.
    pub version: i64,
}

impl QueueView {
    /// A queue in which nothing waits, and that was never paused.
    pub(crate) fn named(name: &str) -> Self {
        Self {
            name: name.into(),
            paused: false,
            paused_by: None,
            reason: None,
            since: None,
            due: 0,
            waiting: 0,
            leased: 0,
            oldest_due_ms: 0,
            version: 0,
        }
    }
}

/// How much work waits in a queue.
#[derive(Clone, Debug, Serialize)]
pub struct QueueDepth {
    /// The queue's name.
    pub queue: String,
    /// Sagas that could move now and are not being worked on.
    pub due: i64,
    /// Sagas that wait for a later time.
    pub waiting: i64,
    /// Sagas being worked on.
    pub leased: i64,
    /// How long the oldest due one has waited.
    pub oldest_due_ms: i64,
}
