//! The claims that this process holds, so that their leases are extended, and the releases that are not yet written.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};

use crate::{model::ids::SagaId, store::claims::ReleaseRow};

#[derive(Clone, Copy, Debug)]
struct Lease {
    epoch: i64,
    extended: Instant,
}

/// All claims and queued releases of one process.
#[derive(Debug, Default)]
pub(crate) struct LeaseTable {
    leases: Mutex<HashMap<SagaId, Lease>>,
    pending: Mutex<Vec<ReleaseRow>>,
    /// Held while queued releases are written to the database.
    pub(crate) flushing: tokio::sync::Mutex<()>,
}

impl LeaseTable {
    /// Adds a claim, which counts as held until the [`LeaseGuard`] is dropped.
    pub(crate) fn track(self: &Arc<Self>, saga_id: SagaId, epoch: i64) -> LeaseGuard {
        self.leases().insert(saga_id, Lease { epoch, extended: Instant::now() });
        LeaseGuard { saga_id, epoch, leases: self.clone() }
    }

    /// The claims whose lease was last extended at least `age` ago.
    pub(crate) fn older_than(&self, age: Duration) -> Vec<uuid::Uuid> {
        let aged = |lease: &Lease| lease.extended.elapsed() >= age;
        let leases = self.leases();
        leases.iter().filter(|(_, lease)| aged(lease)).map(|(saga_id, _)| saga_id.0).collect()
    }

    /// Of these claims, those whose lease was last extended at least `age` ago.
    pub(crate) fn older_than_among(
        &self,
        saga_ids: impl Iterator<Item = SagaId>,
        age: Duration,
    ) -> Vec<uuid::Uuid> {
        let leases = self.leases();
        let aged =
            |saga_id: &SagaId| leases.get(saga_id).is_some_and(|lease| lease.extended.elapsed() >= age);
        saga_ids.filter(aged).map(|saga_id| saga_id.0).collect()
    }

    /// Whether the lease of a claim is known to have ended, or the claim is no longer held.
    pub(crate) fn has_lapsed(&self, saga_id: SagaId, epoch: i64, lease: Duration) -> bool {
        let leases = self.leases();
        !leases.get(&saga_id).is_some_and(|held| held.epoch == epoch && held.extended.elapsed() < lease)
    }

    /// Records that leases were extended at `when`.
    pub(crate) fn extended(&self, saga_ids: &[uuid::Uuid], when: Instant) {
        let mut leases = self.leases();
        for saga_id in saga_ids {
            if let Some(lease) = leases.get_mut(&SagaId(*saga_id)) {
                lease.extended = when;
            }
        }
    }

    /// The number of claims that are held.
    pub(crate) fn count(&self) -> usize {
        self.leases().len()
    }

    /// Queues releases; [`Self::take_pending`] returns them.
    pub(crate) fn queue_release(&self, rows: impl IntoIterator<Item = ReleaseRow>) {
        self.pending().extend(rows);
    }

    /// Takes the queued releases. Unless they are confirmed, they are queued again when the result is dropped.
    pub(crate) fn take_pending(&self) -> PendingReleases<'_> {
        PendingReleases { rows: std::mem::take(&mut *self.pending()), leases: self }
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<SagaId, Lease>> {
        self.leases.lock()
    }

    fn pending(&self) -> MutexGuard<'_, Vec<ReleaseRow>> {
        self.pending.lock()
    }
}

/// Releases that are being written to the database.
#[derive(Debug)]
pub(crate) struct PendingReleases<'a> {
    rows: Vec<ReleaseRow>,
    leases: &'a LeaseTable,
}

impl PendingReleases<'_> {
    /// The releases of other sagas than these, and those of these.
    pub(crate) fn without(&mut self, ids: &HashSet<uuid::Uuid>) -> (&[ReleaseRow], &[ReleaseRow]) {
        if ids.is_empty() {
            return (&self.rows, &[]);
        }
        self.rows.sort_by_key(|row| ids.contains(&row.id));
        self.rows.split_at(self.rows.partition_point(|row| !ids.contains(&row.id)))
    }

    /// Confirms that the releases are written, but for those of these sagas.
    pub(crate) fn confirm_except(&mut self, kept: &HashSet<uuid::Uuid>) {
        self.rows.retain(|row| kept.contains(&row.id));
    }
}

impl Drop for PendingReleases<'_> {
    fn drop(&mut self) {
        self.leases.queue_release(self.rows.drain(..));
    }
}

/// Keeps one claim of this process in the table until it is dropped.
#[derive(Debug)]
pub(crate) struct LeaseGuard {
    saga_id: SagaId,
    epoch: i64,
    leases: Arc<LeaseTable>,
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        let mut leases = self.leases.leases();
        // Keeps the entry if this process has claimed the saga again since.
        if leases.get(&self.saga_id).is_some_and(|lease| lease.epoch == self.epoch) {
            leases.remove(&self.saga_id);
        }
    }
}
