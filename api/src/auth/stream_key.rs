//! The key of a long-lived response: valid when the response began, and checked again while it lasts.

use std::sync::Arc;

use shop::keys::UsableKey;

use super::{caller::Caller, key_cache::KeyCache};

/// The key of a long-lived response.
pub(crate) struct StreamKey {
    key_cache: Arc<KeyCache>,
    key: Arc<UsableKey>,
}

impl StreamKey {
    /// The key of a caller; `None` where keys are not needed.
    pub(crate) fn of(caller: Caller, key_cache: &Arc<KeyCache>) -> Option<Self> {
        caller.key.map(|key| Self { key_cache: Arc::clone(key_cache), key })
    }

    /// Whether the key is still valid; a revocation is noticed after at most the TTL of the cache. The check runs in a
    /// task of its own, so that a caller who hangs up never drops a query half-way.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub(crate) async fn is_usable(&self) -> Result<bool, sqlx::Error> {
        let (key_cache, key) = (Arc::clone(&self.key_cache), Arc::clone(&self.key));
        let asked = tokio::spawn(async move { key_cache.is_usable(&key.key_id).await });
        asked.await.map_err(|_| sqlx::Error::WorkerCrashed)?
    }
}
