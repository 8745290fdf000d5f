//! The key of an answer that lasts: it was good when the answer began, and is asked for again while it goes on.

use std::sync::Arc;

use shop::keys::UsableKey;

use super::{caller::Caller, key_cache::KeyCache};

/// The key with which a long answer was asked for.
pub(crate) struct StreamKey {
    key_cache: Arc<KeyCache>,
    key: Arc<UsableKey>,
}

impl StreamKey {
    /// That of a caller; `None` where no keys are asked for.
    pub(crate) fn of(caller: Caller, key_cache: &Arc<KeyCache>) -> Option<Self> {
        caller.key.map(|key| Self { key_cache: Arc::clone(key_cache), key })
    }

    /// Whether it is neither revoked nor expired by now, to the few seconds that the cache believes what it knows. It is
    /// asked in a task of its own, so that a caller that hangs up never drops a query half-way.
    ///
    /// # Errors
    /// When the database is away.
    pub(crate) async fn is_usable(&self) -> Result<bool, sqlx::Error> {
        let (key_cache, key) = (Arc::clone(&self.key_cache), Arc::clone(&self.key));
        let asked = tokio::spawn(async move { key_cache.is_usable(&key.key_id).await });
        asked.await.map_err(|_| sqlx::Error::WorkerCrashed)?
    }
}
