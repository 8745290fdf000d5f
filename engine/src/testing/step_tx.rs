//! The transaction in which a step's code runs, without an engine.

use std::fmt;

use futures::future::BoxFuture;
use serde_json::Value;
use sqlx::PgConnection;

use crate::{
    definition::{
        new_saga::{NewSaga, Started},
        tx::{Tx, TxHost},
    },
    model::{
        error::{StartError, StepError},
        ids::SagaId,
        signal::{Signal, SignalError, SignalReceipt, SignalState, SignalTarget},
    },
};

/// Lets transaction steps run on a connection, best in a transaction that the test rolls back. What the steps start and
/// signal is kept in memory, for the test to look at.
///
/// ```no_run
/// use engine::{ItemStep, NothingToUndo, Outcome, Item, StepError, Tx, sqlx, testing};
///
/// struct Reserve;
/// impl ItemStep for Reserve {
///     const NAME: &'static str = "reserve";
///     type Input = i32;
///     type Output = i32;
///     type Undo = NothingToUndo;
///     async fn run(&self, tx: &mut Tx<'_>, item: &Item<i32>) -> Result<Outcome<i32>, StepError> {
///         let left = sqlx::query_scalar("update stock set left = left - $1 where left >= $1 returning left");
///         let left = left.bind(item.input).fetch_optional(&mut **tx).await?;
///         Ok(left.map_or_else(|| Outcome::fail("sold-out", "there are too few left"), Outcome::Done))
///     }
/// }
///
/// # async fn test(pool: sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
/// let mut transaction = pool.begin().await?;
/// let mut steps = testing::tx(&mut transaction);
/// let answer = Reserve.run(&mut steps.tx(), &testing::item(1_000_000)).await?;
/// assert!(matches!(answer, Outcome::Fail(failure) if failure.code == "sold-out"));
/// assert!(steps.started().is_empty());
/// transaction.rollback().await?;
/// # Ok(()) }
/// ```
pub fn tx(conn: &mut PgConnection) -> StepTx<'_> {
    StepTx { conn, host: Recorder::default() }
}

/// A connection on which steps run without an engine; made by [`tx`].
pub struct StepTx<'c> {
    conn: &'c mut PgConnection,
    host: Recorder,
}

impl StepTx<'_> {
    /// The transaction for one run of a step.
    pub fn tx(&mut self) -> Tx<'_> {
        Tx::new(self.conn, &mut self.host)
    }

    /// The sagas that steps have started, in order.
    pub fn started(&self) -> &[StartedSaga] {
        &self.host.started
    }

    /// The signals that steps have sent, in order.
    pub fn sent(&self) -> &[SentSignal] {
        &self.host.sent
    }
}

impl fmt::Debug for StepTx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepTx").field("host", &self.host).finish_non_exhaustive()
    }
}

/// A saga that a step started.
#[derive(Clone, Debug, PartialEq)]
pub struct StartedSaga {
    /// Its id.
    pub saga_id: SagaId,
    /// The name of its definition.
    pub definition: String,
    /// Its input.
    pub input: Value,
    /// Its business key.
    pub business_key: Option<String>,
}

/// A signal that a step sent.
#[derive(Clone, Debug, PartialEq)]
pub struct SentSignal {
    /// The saga for which it is.
    pub target: SignalTarget,
    /// Its name.
    pub name: String,
    /// Its message.
    pub message: Value,
    /// The key that makes sending it idempotent.
    pub key: Option<String>,
}

/// Notes what steps start and send. No definition is known, so no input and no message is checked.
#[derive(Debug, Default)]
struct Recorder {
    started: Vec<StartedSaga>,
    sent: Vec<SentSignal>,
}

impl TxHost for Recorder {
    fn start<'a>(
        &'a mut self,
        _: &'a mut PgConnection,
        sagas: Vec<NewSaga>,
    ) -> BoxFuture<'a, Result<Vec<Result<Started, StartError>>, StepError>> {
        let answers = sagas.into_iter().map(|new| self.note_start(new)).collect();
        Box::pin(std::future::ready(Ok(answers)))
    }

    fn signal<'a>(
        &'a mut self,
        _: &'a mut PgConnection,
        target: SignalTarget,
        signal: Signal,
    ) -> BoxFuture<'a, Result<SignalReceipt, SignalError>> {
        Box::pin(std::future::ready(self.note_signal(target, signal)))
    }
}

impl Recorder {
    fn note_start(&mut self, new: NewSaga) -> Result<Started, StartError> {
        let definition = new.definition.into_owned();
        let input = new.input.map_err(StartError::bad_input)?.to_json();
        let key = |saga: &&StartedSaga| saga.business_key.is_some() && saga.business_key == new.business_key;
        let known = self.started.iter().filter(key).find(|saga| saga.definition == definition);
        if let Some(known) = known {
            return Ok(Started { existing: true, ..Started::new(known.saga_id) });
        }
        self.started.push(StartedSaga { saga_id: new.id, definition, input, business_key: new.business_key });
        Ok(Started::new(new.id))
    }

    fn note_signal(&mut self, target: SignalTarget, signal: Signal) -> Result<SignalReceipt, SignalError> {
        let bad = |reason| SignalError::BadMessage { pointer: String::new(), reason };
        let message = signal.message.map_err(bad)?.to_json();
        // The saga behind a business key is not known.
        let saga_id = match &target {
            SignalTarget::Saga(saga_id) => *saga_id,
            SignalTarget::Key { .. } => SagaId::generate(),
        };
        self.sent.push(SentSignal { target, name: signal.name.into_owned(), message, key: signal.key });
        Ok(SignalReceipt { saga_id, state: SignalState::Buffered, replayed: false })
    }
}
