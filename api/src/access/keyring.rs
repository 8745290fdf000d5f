//! The keys that were seen lately, so that not every request asks the database for its key.
//!
//! A key is remembered for some seconds, and so is that there is none; that is how long a revoked key may still pass.
//! What is remembered is the row, not that a secret fitted: that is compared every time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use sqlx::PgPool;
use tokio::sync::OnceCell;
use tokio_util::task::TaskTracker;
use workflows::keys::{self, Token, UsableKey};

use crate::problem::Problem;

/// How long what was read is believed.
const FRESH: Duration = Duration::from_secs(5);
/// How often a key's use is noted.
const NOTED_EVERY: Duration = Duration::from_mins(1);
/// The most keys that are remembered, those that do not exist included.
const MOST: usize = 10_000;
/// How long notes of use may take when the process ends.
const LAST_NOTES: Duration = Duration::from_secs(2);

/// Reads keys, and remembers them.
pub(crate) struct Keyring {
    pool: PgPool,
    seen: Mutex<HashMap<String, Arc<Seen>>>,
    notes: TaskTracker,
}

/// One look at the database, shared by all who wait for it.
struct Seen {
    at: Instant,
    key: OnceCell<Option<Arc<UsableKey>>>,
    noted: Mutex<Option<Instant>>,
}

impl Keyring {
    pub(crate) fn new(pool: PgPool) -> Self {
        Self { pool, seen: Mutex::default(), notes: TaskTracker::new() }
    }

    /// Whether the next look at this key asks no database.
    pub(crate) fn remembers(&self, token: &Token) -> bool {
        let seen = self.lock();
        seen.get(token.key_id()).is_some_and(|seen| seen.is_fresh() && seen.key.initialized())
    }

    /// The key that this token is, if it may be used; `admit` is asked before the database is.
    ///
    /// # Errors
    /// When the database is away, or `admit` says no.
    pub(crate) async fn open<F>(&self, token: &Token, admit: F) -> Result<Option<Arc<UsableKey>>, Problem>
    where
        F: AsyncFnOnce() -> Result<(), Problem>,
    {
        let seen = self.seen(token.key_id());
        let look = async || {
            admit().await?;
            Ok::<_, Problem>(keys::find(&self.pool, token.key_id()).await?.map(Arc::new))
        };
        let Some(key) = seen.key.get_or_try_init(look).await? else { return Ok(None) };
        let is_over = key.left.is_some_and(|left| seen.at.elapsed() >= left);
        if is_over || !token.fits(&key.secret_hash) {
            return Ok(None);
        }
        self.note(&seen, key);
        Ok(Some(Arc::clone(key)))
    }

    /// Waits for notes that are being written, a moment at the most.
    pub(crate) async fn close(&self) {
        self.notes.close();
        if tokio::time::timeout(LAST_NOTES, self.notes.wait()).await.is_err() {
            tracing::debug!("the last use of some keys is not noted: no time is left");
        }
    }

    fn seen(&self, key_id: &str) -> Arc<Seen> {
        let mut all = self.lock();
        let before = all.get(key_id);
        if let Some(seen) = before.filter(|seen| seen.is_fresh()) {
            return Arc::clone(seen);
        }
        let noted = before.map(|seen| *seen.noted()).unwrap_or_default();
        if all.len() >= MOST {
            all.retain(|_, seen| seen.is_fresh());
        }
        if all.len() >= MOST {
            // Somebody makes keys up faster than they are forgotten; forgetting all costs one look each.
            all.clear();
        }
        let seen = Arc::new(Seen { at: Instant::now(), key: OnceCell::new(), noted: Mutex::new(noted) });
        all.insert(key_id.to_owned(), Arc::clone(&seen));
        seen
    }

    /// Has the use of a key written down, beside the request.
    fn note(&self, seen: &Seen, key: &Arc<UsableKey>) {
        let mut noted = seen.noted();
        if noted.is_some_and(|noted| noted.elapsed() < NOTED_EVERY) || self.notes.is_closed() {
            return;
        }
        *noted = Some(Instant::now());
        let (pool, key) = (self.pool.clone(), Arc::clone(key));
        self.notes.spawn(async move {
            if let Err(error) = keys::note_use(&pool, &key.key_id).await {
                tracing::debug!(%error, key = key.name, "the use of a key can't be noted now");
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Seen>>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn is_fresh(&self) -> bool {
        self.at.elapsed() < FRESH
    }

    fn noted(&self) -> MutexGuard<'_, Option<Instant>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
