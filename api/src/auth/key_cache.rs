//! The keys that were seen lately, so that not every request asks the database for its key.
//!
//! A key is believed for some seconds, and so is that there is none; that is how long a revoked key may still pass. What
//! is remembered is the row, not that a secret fitted: that is compared every time. A row that is no longer believed still
//! tells whose calls are whose: see [`KeyCache::recognizes`].

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use shop::keys::{self, Token, UsableKey};
use sqlx::PgPool;
use tokio::sync::OnceCell;
use tokio_util::task::TaskTracker;

use crate::http::Problem;

/// How often a key's use is noted.
const USE_WRITE_INTERVAL: Duration = Duration::from_mins(1);
/// The most keys that are remembered, those that do not exist included.
const MAX_CACHED_KEYS: usize = 10_000;
/// How long notes of use may take when the process ends.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Reads keys, and remembers them.
pub(crate) struct KeyCache {
    pool: PgPool,
    /// How long what was read is believed.
    ttl: Duration,
    cached: Mutex<HashMap<String, Arc<CachedKey>>>,
    use_writes: TaskTracker,
}

/// One look at the database, shared by all who wait for it.
struct CachedKey {
    at: Instant,
    key: OnceCell<Option<Arc<UsableKey>>>,
    /// What the look before this one found.
    before: Option<Arc<UsableKey>>,
    use_written: Mutex<Option<Instant>>,
}

impl KeyCache {
    pub(crate) fn new(pool: PgPool, ttl: Duration) -> Self {
        Self { pool, ttl, cached: Mutex::default(), use_writes: TaskTracker::new() }
    }

    /// Whether this token was a good key when it was looked at last, however long ago: then whoever has it is no
    /// stranger, and the look at how the key is now is not charged to the address that they share with strangers.
    pub(crate) fn recognizes(&self, token: &Token) -> bool {
        let last = self.lock().get(token.key_id()).and_then(|cached| cached.last());
        last.is_some_and(|key| token.fits(&key.secret_hash))
    }

    /// The key that this token is, if it may be used; `before_lookup` is asked before the database is.
    ///
    /// # Errors
    /// When the database is away, or `before_lookup` says no.
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
        let Some(key) = key.filter(|key| !cached.is_over(key) && token.fits(&key.secret_hash)) else {
            return Ok(None);
        };
        self.record_use(&cached, key);
        Ok(Some(Arc::clone(key)))
    }

    /// Whether a key that was let in before may still be used.
    ///
    /// # Errors
    /// When the database is away.
    pub(crate) async fn is_usable(&self, key_id: &str) -> Result<bool, sqlx::Error> {
        let cached = self.cached(key_id);
        let key = cached.key.get_or_try_init(async || self.find(key_id).await).await?;
        Ok(key.as_ref().is_some_and(|key| !cached.is_over(key)))
    }

    /// Waits for notes that are being written, a moment at the most.
    pub(crate) async fn close(&self) {
        self.use_writes.close();
        if tokio::time::timeout(CLOSE_TIMEOUT, self.use_writes.wait()).await.is_err() {
            tracing::debug!("the last use of some keys is not written: no time is left");
        }
    }

    async fn find(&self, key_id: &str) -> Result<Option<Arc<UsableKey>>, sqlx::Error> {
        Ok(keys::find(&self.pool, key_id).await?.map(Arc::new))
    }

    fn cached(&self, key_id: &str) -> Arc<CachedKey> {
        let mut all = self.lock();
        let before = all.get(key_id);
        if let Some(cached) = before.filter(|cached| cached.at.elapsed() < self.ttl) {
            return Arc::clone(cached);
        }
        let use_written = before.map(|cached| *cached.use_written()).unwrap_or_default();
        let last = before.and_then(|cached| cached.last());
        if all.len() >= MAX_CACHED_KEYS {
            // Somebody makes keys up. Of those that there are, there are few: people make them.
            all.retain(|_, cached| cached.last().is_some());
        }
        if all.len() >= MAX_CACHED_KEYS {
            // Forgetting all costs one look each.
            all.clear();
        }
        let (at, key, use_written) = (Instant::now(), OnceCell::new(), Mutex::new(use_written));
        let cached = Arc::new(CachedKey { at, key, before: last, use_written });
        all.insert(key_id.to_owned(), Arc::clone(&cached));
        cached
    }

    /// Has the use of a key written down, beside the request.
    fn record_use(&self, cached: &CachedKey, key: &Arc<UsableKey>) {
        let mut use_written = cached.use_written();
        if use_written.is_some_and(|use_written| use_written.elapsed() < USE_WRITE_INTERVAL)
            || self.use_writes.is_closed()
        {
            return;
        }
        *use_written = Some(Instant::now());
        let (pool, key) = (self.pool.clone(), Arc::clone(key));
        self.use_writes.spawn(async move {
            if let Err(error) = keys::note_use(&pool, &key.key_id).await {
                tracing::debug!(%error, key = key.name, "the use of a key can't be written now");
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<CachedKey>>> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CachedKey {
    /// What the last look found that is over.
    fn last(&self) -> Option<Arc<UsableKey>> {
        self.key.get().unwrap_or(&self.before).clone()
    }

    /// Whether the key's life has ended since.
    fn is_over(&self, key: &UsableKey) -> bool {
        key.left.is_some_and(|left| self.at.elapsed() >= left)
    }

    fn use_written(&self) -> MutexGuard<'_, Option<Instant>> {
        self.use_written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
