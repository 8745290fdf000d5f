//! The transaction in which a step's code runs.

use std::ops::{Deref, DerefMut};

use futures::future::BoxFuture;
use sqlx::PgConnection;

use crate::{
    definition::new_saga::{NewSaga, Started},
    model::error::{StartError, StepError},
};

/// The transaction that the engine opened for a batch. It derefs to [`PgConnection`], so `&mut **tx` is an sqlx
/// executor. Only the engine commits it, together with the sagas' new states.
pub struct Tx<'c> {
    conn: &'c mut PgConnection,
    host: &'c mut dyn TxHost,
}

/// What the engine offers a step inside the transaction.
pub(crate) trait TxHost: Send {
    /// Starts sagas in the transaction and returns an answer for each.
    fn start<'a>(
        &'a mut self,
        conn: &'a mut PgConnection,
        sagas: Vec<NewSaga>,
    ) -> BoxFuture<'a, Result<Vec<Result<Started, StartError>>, StepError>>;
}

impl<'c> Tx<'c> {
    pub(crate) fn new(conn: &'c mut PgConnection, host: &'c mut dyn TxHost) -> Self {
        Self { conn, host }
    }

    /// Starts sagas in this transaction: they exist if and only if it commits. Starting many takes as few statements as
    /// starting one.
    ///
    /// # Errors
    /// When any of them is refused, so that a step can't overlook it.
    pub async fn start(&mut self, sagas: Vec<NewSaga>) -> Result<Vec<Started>, StepError> {
        let answers = self.host.start(self.conn, sagas).await?;
        answers.into_iter().map(|answer| answer.map_err(|error| StepError::Start(Box::new(error)))).collect()
    }
}

impl Deref for Tx<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.conn
    }
}

impl DerefMut for Tx<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.conn
    }
}

impl std::fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tx").finish_non_exhaustive()
    }
}
