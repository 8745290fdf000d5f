//! The wait of one saga in a batch.

use chrono::{DateTime, Utc};

use crate::store::commits::FencedSaga;

/// The wait of one saga while a transaction advances it.
pub(super) struct Wait {
    /// The database's time at the fence.
    pub(super) now: DateTime<Utc>,
    /// Since when the saga has been waiting at its step, if it came to the step in an earlier transaction.
    pub(super) since: Option<DateTime<Utc>>,
    /// The wait for a time or a signal that the saga has entered at its step.
    pub(super) entered: Option<Entered>,
    /// Whether there were signals at the fence that no wait had taken. Only then some can be too late; those that come
    /// after the fence are found when the saga has ended.
    pub(super) has_signals: bool,
    /// The last signal that other code could not read, and that this code could not read either.
    pub(super) tried: i64,
}

/// A wait that a saga has entered.
#[derive(Clone, Copy)]
pub(super) struct Entered {
    pub(super) since: DateTime<Utc>,
    pub(super) until: DateTime<Utc>,
}

impl Wait {
    pub(super) fn of(row: &FencedSaga) -> Self {
        let entered =
            row.wait_until.map(|until| Entered { since: row.waits_since.unwrap_or(row.now), until });
        Self { now: row.now, since: row.waits_since, entered, has_signals: row.has_signals, tried: 0 }
    }

    /// The saga has left its step.
    pub(super) fn leave(&mut self) {
        self.since = None;
        self.entered = None;
        self.tried = 0;
    }
}
