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
}

impl Holds {
    /// Notes a claim; it counts as held until the [`Hold`] is dropped.
    pub(crate) fn hold(self: &Arc<Self>, saga_id: SagaId, epoch: i64) -> Hold {
        self.leases().insert(saga_id, Lease { epoch, extended: Instant::now() });
        Hold { saga_id, epoch, holds: self.clone() }
    }

    /// The claims whose lease was last extended at least `age` ago; they count as extended from now on.
    pub(crate) fn take_aged(&self, age: Duration) -> Vec<uuid::Uuid> {
        let now = Instant::now();
        let mut aged = Vec::new();
        for (saga_id, lease) in self.leases().iter_mut() {
            if now.duration_since(lease.extended) >= age {
                lease.extended = now;
                aged.push(saga_id.0);
            }
        }
        aged.sort_unstable();
        aged
    }

    /// How many claims are held.
    pub(crate) fn count(&self) -> usize {
        self.leases().len()
    }

    /// Notes claims that could not be given back now; [`Self::take_unreleased`] finds them.
    pub(crate) fn release_later(&self, rows: impl IntoIterator<Item = ReleaseRow>) {
        self.unreleased().extend(rows);
    }

    pub(crate) fn take_unreleased(&self) -> Vec<ReleaseRow> {
        std::mem::take(&mut *self.unreleased())
    }

    fn leases(&self) -> std::sync::MutexGuard<'_, HashMap<SagaId, Lease>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unreleased(&self) -> std::sync::MutexGuard<'_, Vec<ReleaseRow>> {
        self.unreleased.lock().unwrap_or_else(PoisonError::into_inner)
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
