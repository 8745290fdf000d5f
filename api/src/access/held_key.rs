//! The key of an answer that lasts: it was good when the answer began, and is asked for again while it goes on.

use std::sync::Arc;

use shop::keys::UsableKey;

use super::{Caller, Keyring};

/// The key with which a long answer was asked for.
pub(crate) struct HeldKey {
    keyring: Arc<Keyring>,
    key: Arc<UsableKey>,
}

impl HeldKey {
    /// That of a caller; `None` where no keys are asked for.
    pub(crate) fn of(caller: Caller, keyring: &Arc<Keyring>) -> Option<Self> {
        caller.key.map(|key| Self { keyring: Arc::clone(keyring), key })
    }

    /// Whether it is neither revoked nor expired by now, to the few seconds that the keyring believes what it knows. It is
    /// asked in a task of its own, so that a caller that hangs up never drops a query half-way.
    ///
    /// # Errors
    /// When the database is away.
    pub(crate) async fn holds(&self) -> Result<bool, sqlx::Error> {
        let (keyring, key) = (Arc::clone(&self.keyring), Arc::clone(&self.key));
        let asked = tokio::spawn(async move { keyring.is_usable(&key.key_id).await });
        asked.await.map_err(|_| sqlx::Error::WorkerCrashed)?
    }
}
