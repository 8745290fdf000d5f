//! Which claims this process holds right now, so that their leases are extended, and which it must give back.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{ids::SagaId, store::claims::ReleaseRow};

#[derive(Clone, Copy, Debug)]
struct Lease {
    epoch: i64,
    extended: Instant,
}

/// All claims of one process.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    leases: Mutex<HashMap<SagaId, Lease>>,
    unreleased: Mutex<Vec<ReleaseRow>>,
    /// Held while noted claims are given back in the database.
    pub(crate) flushing: tokio::sync::Mutex<()>,
}

impl Holds {
    /// Notes a claim; it counts as held until the [`Hold`] is dropped.
    pub(crate) fn hold(self: &Arc<Self>, saga_id: SagaId, epoch: i64) -> Hold {
        self.leases().insert(saga_id, Lease { epoch, extended: Instant::now() });
        Hold { saga_id, epoch, holds: self.clone() }
    }

    /// The claims whose lease was last extended at least `age` ago.
    pub(crate) fn aged(&self, age: Duration) -> Vec<uuid::Uuid> {
        let aged = |lease: &Lease| lease.extended.elapsed() >= age;
        let leases = self.leases();
        leases.iter().filter(|(_, lease)| aged(lease)).map(|(saga_id, _)| saga_id.0).collect()
    }

    /// Those of the claims whose lease was last extended at least `age` ago.
    pub(crate) fn aged_of(&self, saga_ids: impl Iterator<Item = SagaId>, age: Duration) -> Vec<uuid::Uuid> {
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

    /// Notes claims to be given back; [`Self::take_unreleased`] finds them.
    pub(crate) fn release_later(&self, rows: impl IntoIterator<Item = ReleaseRow>) {
        self.unreleased().extend(rows);
    }

    /// Takes the claims to be given back; those not struck off are noted again when it is dropped.
    pub(crate) fn take_unreleased(&self) -> Unreleased<'_> {
        Unreleased { rows: std::mem::take(&mut *self.unreleased()), holds: self }
    }

    fn leases(&self) -> std::sync::MutexGuard<'_, HashMap<SagaId, Lease>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unreleased(&self) -> std::sync::MutexGuard<'_, Vec<ReleaseRow>> {
        self.unreleased.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Claims on their way back to the database.
#[derive(Debug)]
pub(crate) struct Unreleased<'a> {
    pub(crate) rows: Vec<ReleaseRow>,
    holds: &'a Holds,
}

impl Unreleased<'_> {
    /// They are free in the database.
    pub(crate) fn strike_off(&mut self) {
        self.rows.clear();
    }
}

impl Drop for Unreleased<'_> {
    fn drop(&mut self) {
        self.holds.release_later(self.rows.drain(..));
    }
}

/// One claim of this process.
#[derive(Debug)]
pub(crate) struct Hold {
    saga_id: SagaId,
    epoch: i64,
    holds: Arc<Holds>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut leases = self.holds.leases();
        // A newer claim of the same saga by this process is not this one's to forget.
        if leases.get(&self.saga_id).is_some_and(|lease| lease.epoch == self.epoch) {
            leases.remove(&self.saga_id);
        }
    }
}
