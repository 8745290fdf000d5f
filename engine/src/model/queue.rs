//! Queues as operators see and pause them.

use chrono::{DateTime, Utc};
use serde::Serialize;

/// Who pauses a queue, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause<'a> {
    /// The operator who pauses the queue.
    pub actor: &'a str,
    /// The reason for the pause.
    pub reason: &'a str,
}

/// A queue with its pause and its depth.
#[derive(Clone, Debug, Serialize)]
pub struct QueueView {
    /// The queue's name.
    pub name: String,
    /// Whether the queue is paused: no saga of it is claimed.
    pub paused: bool,
    /// The operator who paused it.
    pub paused_by: Option<String>,
    /// The reason for the pause.
    pub reason: Option<String>,
    /// When it was last paused or resumed; `None` if it never was.
    pub since: Option<DateTime<Utc>>,
    /// Sagas that are due and not being worked on.
    pub due: i64,
    /// Sagas that become due later.
    pub waiting: i64,
    /// Sagas being worked on.
    pub leased: i64,
    /// How long the longest-waiting due saga has waited.
    pub oldest_due_ms: i64,
    /// See [`QueueSetting::version`].
    pub version: i64,
}

/// Whether a queue is paused, by whom and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSetting {
    /// Whether the queue is paused: no saga of it is claimed.
    pub paused: bool,
    /// The operator who paused it.
    pub paused_by: Option<String>,
    /// The reason for the pause.
    pub reason: Option<String>,
    /// How often the queue was paused or resumed; 0 if it never was.
    pub version: i64,
}

impl QueueView {
    /// A queue without work that was never paused.
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

/// The depth of a queue.
#[derive(Clone, Debug, Serialize)]
pub struct QueueDepth {
    /// The queue's name.
    pub queue: String,
    /// Sagas that are due and not being worked on.
    pub due: i64,
    /// Sagas that become due later.
    pub waiting: i64,
    /// Sagas being worked on.
    pub leased: i64,
    /// How long the longest-waiting due saga has waited.
    pub oldest_due_ms: i64,
}
