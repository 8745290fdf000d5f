//! The sagas for which this process has stored a signal: those among them that wait for one are to be made due.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

/// The most sagas that wait for a nudge. With more, the database has been away for long, and the look for forgotten
/// signals finds them.
const MAX_PENDING: usize = 100_000;

/// Sagas to be nudged. Those that arrive while one statement nudges are nudged together by the next.
#[derive(Debug, Default)]
pub(crate) struct Nudges {
    pending: Mutex<BTreeSet<Uuid>>,
    pub(crate) wakeup: Notify,
}

impl Nudges {
    pub(crate) fn add(&self, ids: impl IntoIterator<Item = Uuid>) {
        let mut pending = self.pending.lock();
        let room = MAX_PENDING.saturating_sub(pending.len());
        pending.extend(ids.into_iter().take(room));
        if !pending.is_empty() {
            self.wakeup.notify_one();
        }
    }

    /// Takes some of them, at most `limit`.
    pub(crate) fn take(&self, limit: usize) -> Vec<Uuid> {
        let mut pending = self.pending.lock();
        let taken: Vec<Uuid> = pending.iter().take(limit).copied().collect();
        for id in &taken {
            pending.remove(id);
        }
        taken
    }
}
