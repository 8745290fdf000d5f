//! The keys that were seen lately, so that not every request asks the database for its key.
//!
//! A key is believed for some seconds, and so is that there is none; that is how long a revoked key may still pass. What
//! is remembered is the row, not that a secret fitted: that is compared every time. A row that is no longer believed still
//! tells whose calls are whose: see [`Keyring::knows`].

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use shop::keys::{self, Token, UsableKey};
use sqlx::PgPool;
use tokio::sync::OnceCell;
use tokio_util::task::TaskTracker;

use crate::problem::Problem;

/// How often a key's use is noted.
const NOTED_EVERY: Duration = Duration::from_mins(1);
/// The most keys that are remembered, those that do not exist included.
const MOST: usize = 10_000;
/// How long notes of use may take when the process ends.
const LAST_NOTES: Duration = Duration::from_secs(2);

/// Reads keys, and remembers them.
pub(crate) struct Keyring {
    pool: PgPool,
    /// How long what was read is believed.
    believed: Duration,
    seen: Mutex<HashMap<String, Arc<Seen>>>,
    notes: TaskTracker,
}

/// One look at the database, shared by all who wait for it.
struct Seen {
    at: Instant,
    key: OnceCell<Option<Arc<UsableKey>>>,
    /// What the look before this one found.
    before: Option<Arc<UsableKey>>,
    noted: Mutex<Option<Instant>>,
}

impl Keyring {
    pub(crate) fn new(pool: PgPool, believed: Duration) -> Self {
        Self { pool, believed, seen: Mutex::default(), notes: TaskTracker::new() }
    }

    /// Whether this token was a good key when it was looked at last, however long ago: then whoever has it is no
    /// stranger, and the look at how the key is now is not charged to the address that they share with strangers.
    pub(crate) fn knows(&self, token: &Token) -> bool {
        let last = self.lock().get(token.key_id()).and_then(|seen| seen.last());
        last.is_some_and(|key| token.fits(&key.secret_hash))
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
            Ok::<_, Problem>(self.find(token.key_id()).await?)
        };
        let key = seen.key.get_or_try_init(look).await?.as_ref();
        let Some(key) = key.filter(|key| !seen.is_over(key) && token.fits(&key.secret_hash)) else {
            return Ok(None);
        };
        self.note(&seen, key);
        Ok(Some(Arc::clone(key)))
    }

    /// Whether a key that was let in before may still be used.
    ///
    /// # Errors
    /// When the database is away.
    pub(crate) async fn is_usable(&self, key_id: &str) -> Result<bool, sqlx::Error> {
        let seen = self.seen(key_id);
        let key = seen.key.get_or_try_init(async || self.find(key_id).await).await?;
        Ok(key.as_ref().is_some_and(|key| !seen.is_over(key)))
    }

    /// Waits for notes that are being written, a moment at the most.
    pub(crate) async fn close(&self) {
        self.notes.close();
        if tokio::time::timeout(LAST_NOTES, self.notes.wait()).await.is_err() {
            tracing::debug!("the last use of some keys is not noted: no time is left");
        }
    }

    async fn find(&self, key_id: &str) -> Result<Option<Arc<UsableKey>>, sqlx::Error> {
        Ok(keys::find(&self.pool, key_id).await?.map(Arc::new))
    }

    fn seen(&self, key_id: &str) -> Arc<Seen> {
        let mut all = self.lock();
        let before = all.get(key_id);
        if let Some(seen) = before.filter(|seen| seen.at.elapsed() < self.believed) {
            return Arc::clone(seen);
        }
        let noted = before.map(|seen| *seen.noted()).unwrap_or_default();
        let last = before.and_then(|seen| seen.last());
        if all.len() >= MOST {
            // Somebody makes keys up. Of those that there are, there are few: people make them.
            all.retain(|_, seen| seen.last().is_some());
        }
        if all.len() >= MOST {
            // Forgetting all costs one look each.
            all.clear();
        }
        let (at, key, noted) = (Instant::now(), OnceCell::new(), Mutex::new(noted));
        let seen = Arc::new(Seen { at, key, before: last, noted });
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
    /// What the last look found that is over.
    fn last(&self) -> Option<Arc<UsableKey>> {
        self.key.get().unwrap_or(&self.before).clone()
    }

    /// Whether the key's life has ended since.
    fn is_over(&self, key: &UsableKey) -> bool {
        key.left.is_some_and(|left| self.at.elapsed() >= left)
    }

    fn noted(&self) -> MutexGuard<'_, Option<Instant>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
