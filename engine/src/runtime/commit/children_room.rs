//! What one transaction may do for the steps with children of its batch.

use std::time::Duration;

use crate::{
    definition::children::ChildrenAction,
    runtime::{commit::commit_path::CommitPath, settings::Settings},
};

/// What one transaction may still do for all steps with children of its batch.
pub(super) struct Room {
    /// How many children it may open.
    pub(super) children: usize,
    path: CommitPath,
    sagas: usize,
    /// For how long it has read items.
    reading: Duration,
}

impl Room {
    pub(super) fn new(path: CommitPath, sagas: usize) -> Self {
        Self { children: ChildrenAction::OPENED_AT_ONCE, path, sagas, reading: Duration::ZERO }
    }

    /// How long the next page may take, of a step with this time-out; `None` if it is read in another transaction. The
    /// first one is always read.
    pub(super) fn time_to_read(&self, settings: &Settings, timeout: Duration) -> Option<Duration> {
        self.left_of(self.path.time_limit(settings, timeout, self.sagas))
    }

    fn left_of(&self, limit: Duration) -> Option<Duration> {
        (self.reading <= limit / 2).then(|| limit.saturating_sub(self.reading))
    }

    pub(super) fn has_read(&mut self, took: Duration) {
        self.reading += took;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those that come later in a batch have at least half of the time, or their turn in another transaction.
    #[test]
    fn what_is_read_in_one_transaction_shares_its_time() {
        let second = Duration::from_secs(1);
        let mut room = Room::new(CommitPath::Grouped, 3);
        assert_eq!(room.left_of(second), Some(second));
        room.has_read(second * 2 / 5);
        assert_eq!(room.left_of(second), Some(second * 3 / 5));
        room.has_read(second / 5);
        assert_eq!(room.left_of(second), None);
    }
}
