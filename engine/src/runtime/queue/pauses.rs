//! Which queues are paused, as far as this process knows.
//!
//! A paused queue is one in which nothing is **claimed**. What that means, exactly:
//!
//! - Sagas are started in it as ever, by those who may, and wait.
//! - A saga that a process holds at that moment goes on with its steps until it waits (for a retry, a snooze) or
//!   rests; the graph bounds how far that is. Then it waits with the others.
//! - Cancels, retries of dead jobs and deadlines are noted as ever, and acted on once the queue is resumed; a deadline
//!   that passes meanwhile compensates the saga then.
//! - A process asks the database before it claims, if its knowledge is older than [`CACHE_TTL`]: so every process heeds a
//!   pause and a resumption within that time and its poll. One that does not know yet claims nothing.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::RwLock;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::store::{self, claims::ClaimScope};

/// For how long a process does not ask again which queues are paused.
const CACHE_TTL: Duration = Duration::from_millis(500);

/// Which queues are paused, as far as this process knows.
#[derive(Debug, Default)]
pub(crate) struct PauseCache {
    known: RwLock<Option<CachedPauses>>,
}

#[derive(Clone, Debug)]
struct CachedPauses {
    asked: Instant,
    paused: Arc<BTreeSet<String>>,
}

/// What of a claim is left when queues that are paused or throttled are taken out.
pub(crate) enum Claimable {
    Nothing,
    All,
    Ids(Vec<Uuid>),
}

impl PauseCache {
    /// Whether sagas may be claimed in a queue, without asking the database; not before it was asked once.
    pub(crate) fn may_claim(&self, queue: &str) -> bool {
        self.known().is_some_and(|known| !known.paused.contains(queue))
    }

    /// Tells what of a claim is left, without the queues in `throttled`; asks the database if the last
    /// answer is too old. The claims of a feed have heeded its throttle before.
    pub(crate) async fn filter_claimable(
        &self,
        conn: &mut PgConnection,
        scope: ClaimScope<'_>,
        throttled: &BTreeSet<Arc<str>>,
    ) -> Result<Claimable, sqlx::Error> {
        let paused = self.paused(conn).await?;
        Ok(match scope {
            ClaimScope::Queue(queue) | ClaimScope::Probation(queue) | ClaimScope::Orphaned { queue, .. }
                if paused.contains(queue) =>
            {
                Claimable::Nothing
            }
            ClaimScope::Queue(_) | ClaimScope::Probation(_) | ClaimScope::Orphaned { .. } => Claimable::All,
            ClaimScope::Ids(_) if paused.is_empty() && throttled.is_empty() => Claimable::All,
            ClaimScope::Ids(ids) => {
                let closed: Vec<String> =
                    paused.iter().cloned().chain(throttled.iter().map(ToString::to_string)).collect();
                Claimable::Ids(store::queues::not_in_queues(conn, ids, &closed).await?)
            }
        })
    }

    /// Has the next claim ask the database.
    pub(crate) fn forget(&self) {
        *self.known.write() = None;
    }

    async fn paused(&self, conn: &mut PgConnection) -> Result<Arc<BTreeSet<String>>, sqlx::Error> {
        if let Some(known) = self.known().filter(|known| known.asked.elapsed() < CACHE_TTL) {
            return Ok(known.paused);
        }
        let asked = Instant::now();
        let paused: Arc<BTreeSet<_>> = Arc::new(store::queues::paused(conn).await?.into_iter().collect());
        let known = CachedPauses { asked, paused: Arc::clone(&paused) };
        *self.known.write() = Some(known);
        Ok(paused)
    }

    fn known(&self) -> Option<CachedPauses> {
        self.known.read().clone()
    }
}
