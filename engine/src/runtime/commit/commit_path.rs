//! Where a batch is committed.

use std::time::Duration;

use crate::runtime::settings::Settings;

/// Where a batch is committed, which decides how long one saga's step may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommitPath {
    /// In the group commit of its definition, where other batches wait for it.
    Grouped,
    /// Beside the group commit, while a batch is split. The parts that come next wait for it.
    Split,
    /// Beside the group commit, where nothing waits for it. A saga that is alone may use the whole time-out of its
    /// step's policy.
    Alone,
}

impl CommitPath {
    /// How long code with this time-out may run for so many sagas.
    pub(super) fn time_limit(self, settings: &Settings, timeout: Duration, sagas: usize) -> Duration {
        match self {
            // It delays no other.
            Self::Alone if sagas == 1 => timeout,
            Self::Alone | Self::Grouped => timeout.min(settings.batch_time_limit()),
            Self::Split => timeout.min(settings.part_time_limit()),
        }
    }
}
