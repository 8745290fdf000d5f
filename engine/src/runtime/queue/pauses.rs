//! Caches which queues are paused.
//!
//! In a paused queue no saga is **claimed**. In detail:
//!
//! - Sagas can still be started in the queue, and wait there.
//! - A saga that a process holds when the queue is paused goes on with its steps until it has to wait (for a retry or a
//!   snooze), ends or dies. Then it waits like the others.
//! - Cancels, retries of dead jobs and deadlines are still accepted and stored; workers act on them once the queue is
//!   resumed.
//! - Before a claim, a process asks the database if its cached answer is older than [`CACHE_TTL`]. So every process
//!   notices a pause or a resumption within that time and one poll. A process that has no answer yet claims nothing.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::RwLock;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::store::{self, claims::ClaimScope};

/// How long an answer of the database is cached.
const CACHE_TTL: Duration = Duration::from_millis(500);

/// The queues that are paused, as of the last answer of the database.
#[derive(Debug, Default)]
pub(crate) struct PauseCache {
    known: RwLock<Option<CachedPauses>>,
    /// How often the cache was cleared. An answer that was asked for before is not cached.
    cleared: AtomicU64,
}

#[derive(Clone, Debug)]
struct CachedPauses {
    asked: Instant,
    paused: Arc<BTreeSet<String>>,
}

/// What may be claimed once paused and throttled queues are excluded.
pub(crate) enum Claimable {
    Nothing,
    All,
    Ids(Vec<Uuid>),
}

impl PauseCache {
    /// Whether sagas of a queue may be claimed, by the cached answer; `false` before the first answer.
    pub(crate) fn may_claim(&self, queue: &str) -> bool {
        self.known().is_some_and(|known| !known.paused.contains(queue))
    }

    /// Decides what may be claimed: nothing from a paused queue, and no ids from the queues in `throttled`. Asks the
    /// database if the cached answer is too old. A claim of one queue ignores `throttled`, because the claim loop has
    /// already asked that queue's throttle.
    pub(crate) async fn filter_claimable(
        &self,
        conn: &mut PgConnection,
        scope: ClaimScope<'_>,
        throttled: &BTreeSet<Arc<str>>,
    ) -> Result<Claimable, sqlx::Error> {
        let paused = self.paused(conn).await?;
        Ok(match scope {
            ClaimScope::Due { queue, .. }
            | ClaimScope::Lapsed { queue, .. }
            | ClaimScope::Probation(queue)
                if paused.contains(queue) =>
            {
                Claimable::Nothing
            }
            ClaimScope::Due { .. } | ClaimScope::Lapsed { .. } | ClaimScope::Probation(_) => Claimable::All,
            ClaimScope::HeldUp(_) if paused.is_empty() => Claimable::All,
            // The groups of what is held up belong to a definition, and so to one queue.
            ClaimScope::HeldUp(ids) => {
                let closed: Vec<String> = paused.iter().cloned().collect();
                let open = store::queues::not_in_queues(conn, ids, &closed).await?;
                if open.is_empty() { Claimable::Nothing } else { Claimable::All }
            }
            ClaimScope::Ids(_) if paused.is_empty() && throttled.is_empty() => Claimable::All,
            ClaimScope::Ids(ids) => {
                let closed: Vec<String> =
                    paused.iter().cloned().chain(throttled.iter().map(ToString::to_string)).collect();
                Claimable::Ids(store::queues::not_in_queues(conn, ids, &closed).await?)
            }
        })
    }

    /// Clears the cache, so that the next claim asks the database.
    pub(crate) fn forget(&self) {
        let mut known = self.known.write();
        self.cleared.fetch_add(1, Ordering::Relaxed);
        *known = None;
    }

    async fn paused(&self, conn: &mut PgConnection) -> Result<Arc<BTreeSet<String>>, sqlx::Error> {
        if let Some(known) = self.known().filter(|known| known.asked.elapsed() < CACHE_TTL) {
            return Ok(known.paused);
        }
        let (asked, cleared) = (Instant::now(), self.cleared.load(Ordering::Relaxed));
        let paused: Arc<BTreeSet<_>> = Arc::new(store::queues::paused(conn).await?.into_iter().collect());
        let mut known = self.known.write();
        if self.cleared.load(Ordering::Relaxed) == cleared {
            *known = Some(CachedPauses { asked, paused: Arc::clone(&paused) });
        }
        drop(known);
        Ok(paused)
    }

    fn known(&self) -> Option<CachedPauses> {
        self.known.read().clone()
    }
}
