//! Queues as people see and pause them.
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
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    engine::Engine,
    model::views::QueueDepth,
    store::{self, claims::ClaimScope},
};

/// For how long a process does not ask again which queues are paused.
const CACHE_TTL: Duration = Duration::from_millis(500);

/// Why a queue is paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause<'a> {
    /// Who pauses it.
    pub actor: &'a str,
    /// What for.
    pub reason: &'a str,
}

/// A queue, whether it is paused, and what waits in it.
#[derive(Clone, Debug, Serialize)]
pub struct QueueView {
    /// Its name.
    pub name: String,
    /// Whether nothing is claimed in it.
    pub paused: bool,
    /// Who paused it.
    pub paused_by: Option<String>,
    /// What for.
    pub reason: Option<String>,
    /// When it was paused or resumed last; `None` if it never was.
    pub since: Option<DateTime<Utc>>,
    /// Sagas that could move now and are not being worked on.
    pub due: i64,
    /// Sagas that wait for a later time.
    pub waiting: i64,
    /// Sagas being worked on.
    pub leased: i64,
    /// How long the oldest due one has waited.
    pub oldest_due_ms: i64,
    /// As [`QueueSetting::version`].
    pub version: i64,
}

/// How a queue is set, by whom and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSetting {
    /// Whether nothing is claimed in it.
    pub paused: bool,
    /// Who paused it.
    pub paused_by: Option<String>,
    /// What for.
    pub reason: Option<String>,
    /// How often it was set; 0 if it never was.
    pub version: i64,
}

impl Engine {
    /// Lists the queues: those of the registered definitions, those with work in them, and those that were ever paused.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn queues(&self) -> Result<Vec<QueueView>, sqlx::Error> {
        let mut queues: BTreeMap<String, QueueView> = self
            .definitions()
            .map(|definition| (definition.graph().queue.clone(), QueueView::named(&definition.graph().queue)))
            .collect();
        for depth in store::queries::queue_depths(self.pool()).await? {
            let QueueDepth { queue, due, waiting, leased, oldest_due_ms } = depth;
            let view = queues.entry(queue.clone()).or_insert_with(|| QueueView::named(&queue));
            (view.due, view.waiting, view.leased, view.oldest_due_ms) = (due, waiting, leased, oldest_due_ms);
        }
        for row in store::queues::all(self.pool()).await? {
            let view = queues.entry(row.name.clone()).or_insert_with(|| QueueView::named(&row.name));
            (view.paused, view.paused_by, view.reason) = (row.paused, row.paused_by, row.reason);
            (view.since, view.version) = (Some(row.since), row.version);
        }
        Ok(queues.into_values().collect())
    }

    /// Tells how a queue is set, and keeps it so for the rest of the caller's transaction.
    ///
    /// # Errors
    /// When the database is away, or refuses the name.
    pub async fn lock_queue_in(
        &self,
        conn: &mut PgConnection,
        name: &str,
    ) -> Result<QueueSetting, sqlx::Error> {
        let row = store::queues::lock(conn, name).await?;
        let store::queues::QueueRow { paused, paused_by, reason, version, .. } = row;
        Ok(QueueSetting { paused, paused_by, reason, version })
    }

    /// Pauses a queue in the caller's transaction, or resumes it with `None`; gives whether it was paused before. Tell
    /// the engine with [`Engine::queue_changed`] when that is committed; other processes heed it within about a second.
    ///
    /// # Errors
    /// When the database is away, or refuses the name.
    pub async fn set_queue_in(
        &self,
        conn: &mut PgConnection,
        name: &str,
        pause: Option<&Pause<'_>>,
    ) -> Result<bool, sqlx::Error> {
        let was = store::queues::lock(conn, name).await?;
        store::queues::set(conn, name, pause).await?;
        if pause.is_none() {
            store::starts::notify_due(conn, &[name.to_owned()]).await?;
        }
        Ok(was.paused)
    }

    /// Has this process look at once whether a queue is paused.
    pub fn queue_changed(&self, name: &str) {
        self.core.feeds.pauses.forget();
        self.core.feeds.wake(name);
    }
}

impl QueueView {
    fn named(name: &str) -> Self {
        Self {
            name: name.into(),
            paused: false,
            paused_by: None,
            reason: None,
            since: None,
            due: 0,
            waiting: 0,
            leased: 0,
            oldest_due_ms: 0,
            version: 0,
        }
    }
}

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
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn paused(&self, conn: &mut PgConnection) -> Result<Arc<BTreeSet<String>>, sqlx::Error> {
        if let Some(known) = self.known().filter(|known| known.asked.elapsed() < CACHE_TTL) {
            return Ok(known.paused);
        }
        let asked = Instant::now();
        let paused: Arc<BTreeSet<_>> = Arc::new(store::queues::paused(conn).await?.into_iter().collect());
        let known = CachedPauses { asked, paused: Arc::clone(&paused) };
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some(known);
        Ok(paused)
    }

    fn known(&self) -> Option<CachedPauses> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
