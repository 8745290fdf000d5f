//! The wait of one saga in a batch.

use chrono::{DateTime, Utc};

use crate::store::commits::FencedSaga;

/// The wait of one saga while a transaction advances it.
pub(super) struct Wait {
    /// The database's time at the fence.
    pub(super) now: DateTime<Utc>,
    /// The wait that the saga has entered at its step.
    pub(super) entered: Option<Entered>,
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
        Self { now: row.now, entered }
    }

    /// The saga has left its step.
    pub(super) fn leave(&mut self) {
        self.entered = None;
    }
}
