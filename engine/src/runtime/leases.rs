//! Which claims this process holds right now, so that their leases are extended, and which it must give back.

use std::{
    collections::HashMap,
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

/// All claims of one process.
#[derive(Debug, Default)]
pub(crate) struct LeaseTable {
    leases: Mutex<HashMap<SagaId, Lease>>,
    pending: Mutex<Vec<ReleaseRow>>,
    /// Held while noted claims are given back in the database.
    pub(crate) flushing: tokio::sync::Mutex<()>,
}

impl LeaseTable {
    /// Notes a claim; it counts as held until the [`LeaseGuard`] is dropped.
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

    /// Those of the claims whose lease was last extended at least `age` ago.
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

    /// Notes that leases were extended, at `when`.
    pub(crate) fn extended(&self, saga_ids: &[uuid::Uuid], when: Instant) {
        let mut leases = self.leases();
        for saga_id in saga_ids {
            if let Some(lease) = leases.get_mut(&SagaId(*saga_id)) {
                lease.extended = when;
            }
        }
    }

    /// How many claims are held.
    pub(crate) fn count(&self) -> usize {
        self.leases().len()
    }

    /// Notes claims to be given back; [`Self::take_pending`] finds them.
    pub(crate) fn queue_release(&self, rows: impl IntoIterator<Item = ReleaseRow>) {
        self.pending().extend(rows);
    }

    /// Takes the claims to be given back; those not struck off are noted again when it is dropped.
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

/// Claims on their way back to the database.
#[derive(Debug)]
pub(crate) struct PendingReleases<'a> {
    pub(crate) rows: Vec<ReleaseRow>,
    leases: &'a LeaseTable,
}

impl PendingReleases<'_> {
    /// They are free in the database.
    pub(crate) fn confirm(&mut self) {
        self.rows.clear();
    }
}

impl Drop for PendingReleases<'_> {
    fn drop(&mut self) {
        self.leases.queue_release(self.rows.drain(..));
    }
}

/// One claim of this process.
#[derive(Debug)]
pub(crate) struct LeaseGuard {
    saga_id: SagaId,
    epoch: i64,
    leases: Arc<LeaseTable>,
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        let mut leases = self.leases.leases();
        // A newer claim of the same saga by this process is not this one's to forget.
        if leases.get(&self.saga_id).is_some_and(|lease| lease.epoch == self.epoch) {
            leases.remove(&self.saga_id);
        }
    }
}
