//! Read models of signals.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::model::signal::SignalState;

/// A signal that was sent to a saga, without its message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SignalView {
    /// The number of the signal: a later one is higher.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// The key that makes sending it idempotent; one that the engine made if the sender gave none.
    pub key: String,
    /// How far it has come.
    pub state: SignalState,
    /// Who sent it, if the sender said so.
    pub sender: Option<String>,
    /// When it was stored.
    pub created_at: DateTime<Utc>,
    /// When it was consumed, or found too late or unreadable.
    pub settled_at: Option<DateTime<Utc>>,
    /// The entry of the saga's history that consumed it.
    pub history_seq: Option<i32>,
}

/// The signals of one name that no saga has taken yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptSignals {
    /// Their name.
    pub name: String,
    /// How many wait for a saga that comes to its wait, or that was not told of them yet.
    pub buffered: i64,
    /// How many the code of their sagas could not read.
    pub unreadable: i64,
    /// How long ago the oldest of both was sent.
    pub oldest: Duration,
}
