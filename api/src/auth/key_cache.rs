//! Caches API keys, so that not every request reads its key from the database.
//!
//! A key is cached for some seconds, and so is the absence of one; that is how long a revoked key may still be
//! accepted. The cache holds the row; the secret is compared with it on every request. After its time in the
//! cache a row still tells which calls come from the holder of a real key: see [`KeyCache::recognizes`].

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use shop::keys::{self, Token, UsableKey};
use sqlx::PgPool;
use tokio::sync::OnceCell;
use tokio_util::task::TaskTracker;

use crate::http::Problem;

/// How often the last use of a key is written.
const USE_WRITE_INTERVAL: Duration = Duration::from_mins(1);
/// How many keys are cached, including ids that do not exist.
const MAX_CACHED_KEYS: usize = 10_000;
/// How long the last writes may take at shutdown.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The API keys that were used recently.
pub(crate) struct KeyCache {
    pool: PgPool,
    ttl: Duration,
    cached: Mutex<HashMap<String, Arc<CachedKey>>>,
    use_writes: TaskTracker,
}

/// One lookup in the database, shared by all requests that wait for it.
struct CachedKey {
    at: Instant,
    key: OnceCell<Option<Arc<UsableKey>>>,
    /// What the previous lookup found.
    before: Option<Arc<UsableKey>>,
    last_use_written_at: Mutex<Option<Instant>>,
}

impl KeyCache {
    pub(crate) fn new(pool: PgPool, ttl: Duration) -> Self {
        Self { pool, ttl, cached: Mutex::default(), use_writes: TaskTracker::new() }
    }

    /// Whether this token was a valid key at the last lookup, however long ago. If so, the next lookup does not count
    /// against the rate limit of the caller's address, which other callers at that address may have used up.
    pub(crate) fn recognizes(&self, token: &Token) -> bool {
        let last = self.cached.lock().get(token.key_id()).and_then(|cached| cached.last());
        last.is_some_and(|key| token.fits(&key.secret_hash))
    }

    /// Returns the key of this token if it may be used. `before_lookup` runs before the database is asked.
    ///
    /// # Errors
    /// When the database can't be reached, or `before_lookup` fails.
    pub(crate) async fn authenticate<F>(
        &self,
        token: &Token,
        before_lookup: F,
    ) -> Result<Option<Arc<UsableKey>>, Problem>
    where
        F: AsyncFnOnce() -> Result<(), Problem>,
    {
        let cached = self.cached(token.key_id());
        let lookup = async || {
            before_lookup().await?;
            Ok::<_, Problem>(self.find(token.key_id()).await?)
        };
        let key = cached.key.get_or_try_init(lookup).await?.as_ref();
        let Some(key) = key.filter(|key| !cached.has_expired(key) && token.fits(&key.secret_hash)) else {
            return Ok(None);
        };
        self.record_use(&cached, key);
        Ok(Some(Arc::clone(key)))
    }

    /// Whether a key that was accepted before may still be used.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub(crate) async fn is_usable(&self, key_id: &str) -> Result<bool, sqlx::Error> {
        let cached = self.cached(key_id);
        let key = cached.key.get_or_try_init(async || self.find(key_id).await).await?;
        Ok(key.as_ref().is_some_and(|key| !cached.has_expired(key)))
    }

    /// Waits for writes in progress, two seconds at most.
    pub(crate) async fn close(&self) {
        self.use_writes.close();
        if tokio::time::timeout(CLOSE_TIMEOUT, self.use_writes.wait()).await.is_err() {
            tracing::debug!("the last use of some keys was not written before shutdown");
        }
    }

    async fn find(&self, key_id: &str) -> Result<Option<Arc<UsableKey>>, sqlx::Error> {
        Ok(keys::find(&self.pool, key_id).await?.map(Arc::new))
    }

    fn cached(&self, key_id: &str) -> Arc<CachedKey> {
        let mut all = self.cached.lock();
        let before = all.get(key_id);
        if let Some(cached) = before.filter(|cached| cached.at.elapsed() < self.ttl) {
            return Arc::clone(cached);
        }
        let last_use_written_at = before.map(|cached| *cached.last_use_written_at.lock()).unwrap_or_default();
        let last = before.and_then(|cached| cached.last());
        if all.len() >= MAX_CACHED_KEYS {
            // The cache is full of unknown ids: a caller is guessing. Keep the entries of real keys, which are few.
            all.retain(|_, cached| cached.last().is_some());
        }
        if all.len() >= MAX_CACHED_KEYS {
            // Clearing the cache costs one lookup per key.
            all.clear();
        }
        let (at, key, last_use_written_at) =
            (Instant::now(), OnceCell::new(), Mutex::new(last_use_written_at));
        let cached = Arc::new(CachedKey { at, key, before: last, last_use_written_at });
        all.insert(key_id.to_owned(), Arc::clone(&cached));
        cached
    }

    /// Records in the background that a key was used, so that the request does not wait for it.
    fn record_use(&self, cached: &CachedKey, key: &Arc<UsableKey>) {
        let mut last_use_written_at = cached.last_use_written_at.lock();
        if last_use_written_at
            .is_some_and(|last_use_written_at| last_use_written_at.elapsed() < USE_WRITE_INTERVAL)
            || self.use_writes.is_closed()
        {
            return;
        }
        *last_use_written_at = Some(Instant::now());
        let (pool, key) = (self.pool.clone(), Arc::clone(key));
        self.use_writes.spawn(async move {
            if let Err(error) = keys::note_use(&pool, &key.key_id).await {
                tracing::debug!(error = %engine::ErrorChain(&error), key = key.name, "the last use of a key could not be written");
            }
        });
    }
}

impl CachedKey {
    /// What the last finished lookup found.
    fn last(&self) -> Option<Arc<UsableKey>> {
        self.key.get().unwrap_or(&self.before).clone()
    }

    /// Whether the key has expired since the lookup.
    fn has_expired(&self, key: &UsableKey) -> bool {
        key.expires_in.is_some_and(|expires_in| self.at.elapsed() >= expires_in)
    }
}
