//! The cancels of one saga in a batch.

use crate::{
    model::pending_cancel::{IfLate, PendingCancel},
    store::commits::FencedSaga,
};

/// The cancels of one saga that were accepted and not applied before this batch.
#[derive(Debug, Default)]
pub(crate) struct Cancels {
    /// Those that are neither followed nor late yet.
    pub(super) pending: Vec<ReadCancel>,
    /// The messages of those that the saga follows, or followed before.
    pub(super) followed: Vec<i64>,
    /// Those that the saga can't follow any more.
    pub(super) late: Vec<ReadCancel>,
    /// Whether some are left in the inbox for another transaction.
    pub(super) leaves_some: bool,
}

/// A cancel that was read with its saga.
#[derive(Debug)]
pub(super) struct ReadCancel {
    pub(super) cancel: PendingCancel,
    /// Its message in the inbox; `None` for the one that is stored with the saga.
    pub(super) message: Option<i64>,
}

impl Cancels {
    /// The cancel that is stored with the saga. One that can't be read is no cancel.
    pub(super) fn of(row: &FencedSaga) -> Self {
        let stored = row.cancel.as_ref().and_then(|stored| serde_json::from_value(stored.clone()).ok());
        let pending = stored.map(|cancel| ReadCancel { cancel, message: None });
        Self { pending: pending.into_iter().collect(), ..Self::default() }
    }

    /// Whether the cancel that is stored with the saga stays there, for a later batch or another process.
    pub(super) fn keeps_stored(&self) -> bool {
        self.pending.iter().any(|read| read.message.is_none())
    }

    /// The late cancel of which the observer is told.
    pub(super) fn told(&self) -> Option<&PendingCancel> {
        self.late.iter().map(|read| &read.cancel).find(|cancel| cancel.if_late() == IfLate::Tell)
    }

    /// The saga follows them.
    pub(super) fn follow(&mut self) {
        self.followed.extend(self.pending.drain(..).filter_map(|read| read.message));
    }

    /// The saga has completed, and only another transaction can undo it: those of a parent that compensates stay in the
    /// inbox.
    pub(super) fn leave_those_of_parent(&mut self) {
        let before = self.pending.len();
        self.pending.retain(|read| !read.cancel.is_of_parent());
        self.leaves_some |= self.pending.len() < before;
    }

    /// The saga can't follow them any more.
    pub(super) fn refuse(&mut self) {
        self.late.append(&mut self.pending);
    }
}
