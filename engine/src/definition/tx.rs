//! The transaction in which a step's code runs.

use std::ops::{Deref, DerefMut};

use futures::future::BoxFuture;
use sqlx::PgConnection;

use crate::{
    definition::new_saga::{NewSaga, Started},
    model::{
        error::{StartError, StepError},
        signal::{Signal, SignalError, SignalReceipt, SignalTarget},
    },
};

/// The transaction that the engine opened for a batch. It derefs to [`PgConnection`], so `&mut **tx` is an sqlx
/// executor. Only the engine commits it, together with the sagas' new states.
pub struct Tx<'c> {
    conn: &'c mut PgConnection,
    host: &'c mut dyn TxHost,
    items: Items,
    /// Whether the current item used the transaction.
    used_by_item: bool,
    /// Whether the answers are dropped if an item taints the transaction, so that the others need not run.
    stops_when_tainted: bool,
}

/// What is known about the items of a one-item step that ran in a [`Tx`] so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Items {
    /// The items that ran.
    pub(crate) ran: usize,
    /// Whether any code used the transaction.
    pub(crate) used: bool,
    /// Whether an item used the transaction and then said no.
    pub(crate) tainted: bool,
}

/// What the engine offers a step inside the transaction.
pub(crate) trait TxHost: Send {
    /// Starts sagas in the transaction and returns an answer for each.
    fn start<'a>(
        &'a mut self,
        conn: &'a mut PgConnection,
        sagas: Vec<NewSaga>,
    ) -> BoxFuture<'a, Result<Vec<Result<Started, StartError>>, StepError>>;

    /// Sends a signal in the transaction.
    fn signal<'a>(
        &'a mut self,
        conn: &'a mut PgConnection,
        target: SignalTarget,
        signal: Signal,
    ) -> BoxFuture<'a, Result<SignalReceipt, SignalError>>;
}

impl<'c> Tx<'c> {
    pub(crate) fn new(conn: &'c mut PgConnection, host: &'c mut dyn TxHost) -> Self {
        Self { conn, host, items: Items::default(), used_by_item: false, stops_when_tainted: false }
    }

    /// As [`Tx::new`]; the items that follow one that taints the transaction need not run.
    pub(crate) fn stopping_when_tainted(conn: &'c mut PgConnection, host: &'c mut dyn TxHost) -> Self {
        Self { stops_when_tainted: true, ..Self::new(conn, host) }
    }

    pub(crate) fn items(&self) -> Items {
        self.items
    }

    /// Notes that an item of a one-item step was answered. Returns false if the items that follow need not run.
    pub(crate) fn item_ran(&mut self, said_no: bool) -> bool {
        self.items.ran += 1;
        self.items.tainted |= said_no && self.used_by_item;
        self.used_by_item = false;
        !(self.items.tainted && self.stops_when_tainted)
    }

    fn note_use(&mut self) {
        self.items.used = true;
        self.used_by_item = true;
    }

    /// Starts sagas in this transaction: they exist if and only if it commits. Starting many takes as few statements as
    /// starting one.
    ///
    /// # Errors
    /// When any of them is refused, so that a step can't overlook it.
    pub async fn start(&mut self, sagas: Vec<NewSaga>) -> Result<Vec<Started>, StepError> {
        self.note_use();
        let answers = self.host.start(self.conn, sagas).await.map_err(|error| match error {
            StepError::OutputTooLarge(failure) => StepError::Start(Box::new(StartError::Refused(failure))),
            other => other,
        })?;
        answers.into_iter().map(|answer| answer.map_err(|error| StepError::Start(Box::new(error)))).collect()
    }

    /// Sends a signal to another saga in this transaction: it exists if and only if it commits.
    ///
    /// # Errors
    /// See [`SignalError`]. After [`SignalError::Database`] the transaction can't go on: return the error.
    pub async fn signal(
        &mut self,
        target: impl Into<SignalTarget>,
        signal: Signal,
    ) -> Result<SignalReceipt, SignalError> {
        self.note_use();
        self.host.signal(self.conn, target.into(), signal).await
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
        self.note_use();
        self.conn
    }
}

impl std::fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tx").finish_non_exhaustive()
    }
}
