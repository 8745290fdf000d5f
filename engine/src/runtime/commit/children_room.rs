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
        let of_step = self.path.time_limit(settings, timeout, self.sagas);
        self.share_of(of_step, self.path.time_limit(settings, Duration::MAX, self.sagas))
    }

    /// What is left of the whole time for a page that may take `of_step`: that, or at least half of the whole.
    fn share_of(&self, of_step: Duration, whole: Duration) -> Option<Duration> {
        let left = whole.saturating_sub(self.reading);
        (left >= of_step.min(whole / 2)).then(|| of_step.min(left))
    }

    pub(super) fn has_read(&mut self, took: Duration) {
        self.reading += took;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those that come later in a batch have their own time or half of the whole, or their turn in another transaction.
    #[test]
    fn what_is_read_in_one_transaction_shares_its_time() {
        let (second, tenth) = (Duration::from_secs(1), Duration::from_millis(100));
        let mut room = Room::new(CommitPath::Grouped, 3);
        assert_eq!(room.share_of(second, second), Some(second));
        room.has_read(tenth * 4);
        assert_eq!(room.share_of(second, second), Some(tenth * 6));
        room.has_read(tenth * 2);
        assert_eq!(room.share_of(second, second), None);
        assert_eq!(room.share_of(tenth, second), Some(tenth), "a quick one has its turn all the same");
        room.has_read(tenth * 4);
        assert_eq!(room.share_of(tenth, second), None);
    }
}
