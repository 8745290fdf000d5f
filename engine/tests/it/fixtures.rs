//! Sagas for tests, unrelated to the shop, and an engine with a worker that runs them.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use engine::{
    Batch, CallError, CallStep, Definition, Engine, EngineBuilder, ForwardOnly, Item, ItemStep, Outcome,
    Outcomes, PerItem, RetryPolicy, Saga, SagaName, StepError, TransactionStep, Tx, UndoBatch, UndoCall,
    UndoItem, UndoItemStep, UndoOutcome, UndoOutcomes, UndoTransaction,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::support::{Database, WAIT_TIMEOUT};

pub(super) const FULL: SagaName<TestInput> = SagaName::new("full-saga");

/// A retry policy for tests that use up attempts; no step reaches its time-out.
pub(super) const QUICK: RetryPolicy = RetryPolicy {
    first_delay: Duration::from_millis(1),
    factor: 1.0,
    max_delay: Duration::from_millis(2),
    attempts: 3,
    // The longest time-out that a transaction step may have.
    timeout: RetryPolicy::LONGEST_TRANSACTION,
    max_postponed: RetryPolicy::MAX_POSTPONED,
};

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TestInput {
    /// The step that fails, and how.
    pub(super) at: Option<String>,
    pub(super) fault: Option<StepFault>,
}

impl TestInput {
    /// The input of a saga in which this step has a fault.
    pub(super) fn with(at: &str, fault: StepFault) -> Self {
        Self { at: Some(at.into()), fault: Some(fault) }
    }

    fn fault_at(&self, step: &str) -> Option<StepFault> {
        self.fault.filter(|_| self.at.as_deref() == Some(step))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) enum StepFault {
    Fails,
    SqlError,
    Panics,
    Hangs,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Packed {
    pub(super) boxes: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Sent {
    pub(super) receipt: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Closed;

pub(super) async fn record_effect(
    tx: &mut Tx<'_>,
    ids: Vec<uuid::Uuid>,
    step: &str,
    change: i32,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into effect (saga_id, step, change) select id, $2, $3 from unnest($1::uuid[]) as i (id)",
    )
    .bind(ids)
    .bind(step)
    .bind(change)
    .execute(&mut **tx)
    .await
    .map(drop)
}

async fn inject(tx: &mut Tx<'_>, fault: Option<StepFault>) -> Result<(), StepError> {
    match fault {
        Some(StepFault::SqlError) => {
            sqlx::query("select 1 / 0").execute(&mut **tx).await?;
        }
        Some(StepFault::Panics) => panic!("the step panics"),
        Some(StepFault::Hangs) => {
            sqlx::query("select pg_sleep(600)").execute(&mut **tx).await?;
        }
        Some(StepFault::Fails) | None => {}
    }
    Ok(())
}

pub(super) struct Pack;

impl TransactionStep for Pack {
    const NAME: &'static str = "pack";
    const RETRY: RetryPolicy = QUICK;
    type Input = TestInput;
    type Output = Packed;
    type Undo = Self;

    async fn run(&self, tx: &mut Tx<'_>, batch: &Batch<TestInput>) -> Result<Outcomes<Packed>, StepError> {
        for item in batch {
            inject(tx, item.input.fault_at("pack")).await?;
        }
        let outcomes = batch.decide(|item| match item.input.fault_at("pack") {
            Some(StepFault::Fails) => Outcome::fail("no-boxes", "there are no boxes"),
            _ => Outcome::Done(Packed { boxes: 2 }),
        });
        let done = batch.iter().zip(&outcomes).filter(|(_, outcome)| matches!(outcome, Outcome::Done(_)));
        record_effect(tx, done.map(|(item, _)| item.saga_id.0).collect(), "pack", 1).await?;
        Ok(outcomes)
    }
}

impl UndoTransaction<Pack> for Pack {
    const RETRY: RetryPolicy = QUICK;

    async fn undo(
        _: &Pack,
        tx: &mut Tx<'_>,
        batch: &UndoBatch<TestInput, Packed>,
    ) -> Result<UndoOutcomes, StepError> {
        record_effect(tx, batch.iter().map(|item| item.saga_id.0).collect(), "pack", -1).await?;
        Ok(batch.decide(|_| UndoOutcome::Done))
    }
}

/// What the called service received: idempotency keys of calls, and of calls that undo them.
#[derive(Clone)]
pub(super) struct ExternalWorld {
    /// Whether the service answers calls.
    pub(super) answers: Arc<watch::Sender<bool>>,
    pub(super) sent: Arc<Mutex<Vec<String>>>,
    pub(super) taken_back: Arc<Mutex<Vec<String>>>,
}

impl Default for ExternalWorld {
    fn default() -> Self {
        let answers = Arc::new(watch::Sender::new(true));
        Self { answers, sent: Arc::default(), taken_back: Arc::default() }
    }
}

pub(super) struct Send(pub ExternalWorld);

impl CallStep for Send {
    const NAME: &'static str = "send";
    const RETRY: RetryPolicy = QUICK;
    type Input = (TestInput, Packed);
    type Output = Sent;
    type Undo = Self;

    async fn call(&self, item: &Item<Self::Input>) -> Result<Outcome<Sent>, CallError> {
        self.0.sent.lock().unwrap().push(item.idempotency_key.clone());
        let mut answers = self.0.answers.subscribe();
        answers.wait_for(|answers| *answers).await.expect("the step has the sender");
        Ok(match item.input.0.fault_at("send") {
            Some(StepFault::Fails) => Outcome::fail("no-address", "there is no such address"),
            Some(StepFault::Panics) => panic!("the call panics"),
            Some(StepFault::Hangs) => std::future::pending().await,
            Some(StepFault::SqlError) | None => Outcome::Done(Sent { receipt: item.saga_id.to_string() }),
        })
    }
}

impl UndoCall<Send> for Send {
    const RETRY: RetryPolicy = QUICK;

    async fn undo(
        step: &Send,
        item: &UndoItem<(TestInput, Packed), Option<Sent>>,
    ) -> Result<UndoOutcome, CallError> {
        step.0.taken_back.lock().unwrap().push(item.action_key.clone());
        Ok(UndoOutcome::Done)
    }
}

/// A step that is written for one saga at a time.
pub(super) struct Charge;

impl ItemStep for Charge {
    const NAME: &'static str = "charge";
    const RETRY: RetryPolicy = QUICK;
    type Input = (TestInput, Sent);
    type Output = u32;
    type Undo = Self;

    async fn run(&self, tx: &mut Tx<'_>, item: &Item<Self::Input>) -> Result<Outcome<u32>, StepError> {
        inject(tx, item.input.0.fault_at("charge")).await?;
        if item.input.0.fault_at("charge") == Some(StepFault::Fails) {
            return Ok(Outcome::fail("no-money", "the account is empty"));
        }
        record_effect(tx, vec![item.saga_id.0], "charge", 1).await?;
        Ok(Outcome::Done(12))
    }
}

impl UndoItemStep<Charge> for Charge {
    const RETRY: RetryPolicy = QUICK;

    async fn undo(
        _: &Charge,
        tx: &mut Tx<'_>,
        item: &UndoItem<(TestInput, Sent), u32>,
    ) -> Result<UndoOutcome, StepError> {
        record_effect(tx, vec![item.saga_id.0], "charge", -1).await?;
        Ok(UndoOutcome::Done)
    }
}

pub(super) struct Seal;

impl TransactionStep for Seal {
    const NAME: &'static str = "seal";
    const RETRY: RetryPolicy = QUICK;
    type Input = TestInput;
    type Output = String;
    type Undo = ForwardOnly;

    async fn run(&self, tx: &mut Tx<'_>, batch: &Batch<TestInput>) -> Result<Outcomes<String>, StepError> {
        for item in batch {
            inject(tx, item.input.fault_at("seal")).await?;
        }
        let outcomes = batch.decide(|item| match item.input.fault_at("seal") {
            Some(StepFault::Fails) => Outcome::fail("no-wax", "there is no wax"),
            _ => Outcome::Done("sealed".into()),
        });
        let done = batch.iter().zip(&outcomes).filter(|(_, outcome)| matches!(outcome, Outcome::Done(_)));
        record_effect(tx, done.map(|(item, _)| item.saga_id.0).collect(), "seal", 1).await?;
        Ok(outcomes)
    }
}

pub(super) struct File;

impl TransactionStep for File {
    const NAME: &'static str = "file";
    const RETRY: RetryPolicy = QUICK;
    type Input = TestInput;
    type Output = Closed;
    type Undo = ForwardOnly;

    async fn run(&self, tx: &mut Tx<'_>, batch: &Batch<TestInput>) -> Result<Outcomes<Closed>, StepError> {
        for item in batch {
            inject(tx, item.input.fault_at("file")).await?;
        }
        record_effect(tx, batch.iter().map(|item| item.saga_id.0).collect(), "file", 1).await?;
        Ok(batch.decide(|_| Outcome::Done(Closed)))
    }
}

/// Three transaction steps: pack (with undo), seal (pivot), file.
pub(super) const PLAIN: SagaName<TestInput> = SagaName::new("plain-saga");

pub(super) fn plain_saga() -> Definition {
    Saga::named(PLAIN).then(Pack).pivot(Seal).then(File).build().unwrap()
}

/// Every kind of step: pack (batch, with undo), send (call, with undo), charge (one item, with undo), seal (pivot),
/// file.
pub(super) fn full_saga(world: &ExternalWorld) -> Definition {
    Saga::named(FULL)
        .then(Pack)
        .then_call(Send(world.clone()))
        .then(PerItem(Charge))
        .pivot(Seal)
        .then(File)
        .build()
        .unwrap()
}

/// A database with the engine's schema and the table that the steps write to, and a pool for an engine.
pub(super) async fn database() -> (Database, PgPool) {
    let database = Database::fresh().await;
    let pool = database.pool().await;
    make_effects(&pool).await;
    (database, pool)
}

/// As [`database`], with a pool of the owner of the schema, for tests that change it.
pub(super) async fn owner_database() -> (Database, PgPool) {
    let database = Database::fresh().await;
    let pool = database.owner_pool().await;
    make_effects(&pool).await;
    (database, pool)
}

/// Applies the wanted migrations, by their versions, as an upgrade does.
pub(super) async fn apply_migrations(pool: &PgPool, is_wanted: &dyn Fn(i64) -> bool) {
    for migration in engine::migrations().all().iter().filter(|migration| is_wanted(migration.version)) {
        sqlx::raw_sql(migration.sql.clone()).execute(pool).await.unwrap();
    }
}

async fn make_effects(pool: &PgPool) {
    sqlx::query("create table effect (saga_id uuid not null, step text not null, change int not null)")
        .execute(pool)
        .await
        .unwrap();
}

/// An engine with a worker.
pub(super) struct TestEngine {
    pub(super) engine: Engine,
    stop: CancellationToken,
    worker: JoinHandle<()>,
}

impl TestEngine {
    pub(super) fn build(builder: EngineBuilder) -> Self {
        Self::start(builder.build().unwrap())
    }

    pub(super) fn start(engine: Engine) -> Self {
        let stop = CancellationToken::new();
        let worker = tokio::spawn({
            let (engine, stop, mut feed) = (engine.clone(), stop.clone(), engine.feed("default", 256));
            async move { engine.run(&mut feed, stop).await }
        });
        Self { engine, stop, worker }
    }

    pub(super) async fn close(self) {
        self.stop.cancel();
        self.worker.await.unwrap();
        self.engine.shutdown().await;
    }
}

/// Waits until a query with one boolean is true.
pub(super) async fn holds(pool: &PgPool, query: &str) {
    let held = async {
        while sqlx::query_scalar::<_, Option<bool>>(sqlx::AssertSqlSafe(query.to_owned()))
            .fetch_one(pool)
            .await
            .unwrap()
            != Some(true)
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(WAIT_TIMEOUT, held).await.unwrap_or_else(|_| panic!("never true: {query}"));
}

/// The sum of a step's effects over all sagas.
pub(super) async fn effects(pool: &PgPool, step: &str) -> i64 {
    sqlx::query_scalar("select coalesce(sum(change), 0) from effect where step = $1")
        .bind(step)
        .fetch_one(pool)
        .await
        .unwrap()
}
