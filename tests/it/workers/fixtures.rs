//! A queue of parcels with its workers, and the outside service that its steps call.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use engine::{
    Batch, CallError, CallStep, Engine, Item, ItemStep, NothingToUndo, Outcome, Outcomes, PerItem,
    RetryPolicy, Saga, SagaId, SagaName, Status, StepError, TransactionStep, Tx,
};
use sqlx::PgPool;
use tokio::{sync::watch, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use workers::{QueueOptions, RedisHealth, RedisOptions, RedisState, Workers, WorkersError};

use crate::support::{Database, RedisServer, WAIT_TIMEOUT};

pub(super) const QUEUE: &str = "parcels";
const SEND_PARCEL: SagaName<Parcel> = SagaName::new("send-parcel");
/// The shutdown deadline of the workers.
pub(super) const DEADLINE: Duration = Duration::from_secs(2);

/// The input of a parcel's saga.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub(super) struct Parcel {
    /// The step whose first attempt panics.
    pub(super) panics_at: Option<String>,
}

impl Parcel {
    /// The input of a saga in which no step panics.
    pub(super) fn steady() -> Self {
        Self { panics_at: None }
    }

    fn panic_at(&self, step: &str, attempt: u32) {
        assert!(attempt > 1 || self.panics_at.as_deref() != Some(step), "as the test wants it");
    }
}

/// A transaction step over a batch.
struct Pack;

impl TransactionStep for Pack {
    const NAME: &'static str = "pack";
    type Input = Parcel;
    type Output = ();
    type Undo = NothingToUndo;

    async fn run(&self, tx: &mut Tx<'_>, batch: &Batch<Parcel>) -> Result<Outcomes<()>, StepError> {
        let ids: Vec<Uuid> = batch.iter().map(|item| item.saga_id.0).collect();
        sqlx::query("insert into effect (saga_id, step) select id, 'pack' from unnest($1::uuid[]) as id")
            .bind(ids)
            .execute(&mut **tx)
            .await?;
        Ok(batch.decide(|_| Outcome::Done(())))
    }
}

/// A call step that takes a moment and counts its calls.
struct Ship(Calls);

impl CallStep for Ship {
    const NAME: &'static str = "ship";
    const RETRY: RetryPolicy = RetryPolicy { first_delay: Duration::from_millis(10), ..RetryPolicy::CALL };
    type Input = Parcel;
    type Output = ();
    type Undo = NothingToUndo;

    async fn call(&self, item: &Item<Parcel>) -> Result<Outcome<()>, CallError> {
        item.input.panic_at(Self::NAME, item.attempt);
        self.0.count(item.saga_id);
        self.0.answer().await;
        Ok(Outcome::Done(()))
    }
}

/// A transaction step for one saga at a time.
struct File;

impl ItemStep for File {
    const NAME: &'static str = "file";
    const RETRY: RetryPolicy =
        RetryPolicy { first_delay: Duration::from_millis(10), ..RetryPolicy::TRANSACTION };
    type Input = Parcel;
    type Output = ();
    type Undo = NothingToUndo;

    async fn run(&self, tx: &mut Tx<'_>, item: &Item<Parcel>) -> Result<Outcome<()>, StepError> {
        item.input.panic_at(Self::NAME, item.attempt);
        sqlx::query("insert into effect (saga_id, step) values ($1, 'file')")
            .bind(item.saga_id.0)
            .execute(&mut **tx)
            .await?;
        Ok(Outcome::Done(()))
    }
}

/// The called service: how often it was called for each saga, and whether it answers.
#[derive(Clone)]
pub(super) struct Calls {
    counts: Arc<Mutex<HashMap<SagaId, u32>>>,
    /// Whether calls are answered.
    answers: Arc<watch::Sender<bool>>,
}

impl Calls {
    pub(super) fn new() -> Self {
        Self { counts: Arc::default(), answers: Arc::new(watch::Sender::new(true)) }
    }

    fn count(&self, saga_id: SagaId) {
        *self.counts.lock().unwrap().entry(saga_id).or_default() += 1;
    }

    /// The largest number of calls that a saga has made.
    pub(super) fn most(&self) -> u32 {
        self.counts.lock().unwrap().values().copied().max().unwrap_or(0)
    }

    /// The number of calls of all sagas.
    pub(super) fn sum(&self) -> u32 {
        self.counts.lock().unwrap().values().sum()
    }

    /// Makes calls hang, or lets them be answered again.
    pub(super) fn hang(&self, hang: bool) {
        self.answers.send_replace(!hang);
    }

    async fn answer(&self) {
        let mut answers = self.answers.subscribe();
        answers.wait_for(|answers| *answers).await.expect("the sender is here");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A database with a queue of parcels, and the calls that its sagas make.
pub(super) struct TestQueue {
    pub(super) database: Database,
    pub(super) pool: PgPool,
    pub(super) calls: Calls,
}

impl TestQueue {
    /// How many processes ran a step.
    pub(super) async fn workers_at(&self, step: &str) -> i64 {
        sqlx::query_scalar("select count(distinct worker) from engine.history where step = $1")
            .bind(step)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    pub(super) async fn new() -> Self {
        let database = Database::fresh().await;
        let pool = database.pool().await;
        sqlx::query("create table effect (saga_id uuid not null, step text not null)")
            .execute(&pool)
            .await
            .unwrap();
        Self { database, pool, calls: Calls::new() }
    }

    pub(super) fn engine(&self) -> Engine {
        self.engine_on(self.pool.clone())
    }

    pub(super) fn engine_on(&self, pool: PgPool) -> Engine {
        let definition = Saga::named(SEND_PARCEL)
            .queue(QUEUE)
            .then(Pack)
            .then_call(Ship(self.calls.clone()))
            .then(PerItem(File))
            .build()
            .unwrap();
        // The lease is longer than a slow machine delays its extension.
        Engine::builder(pool).lease(Duration::from_mins(1)).register(definition).build().unwrap()
    }

    /// A process that works on the queue.
    pub(super) async fn worker(&self, options: QueueOptions, redis: Option<&RedisServer>) -> Worker {
        let engine = self.engine_on(self.database.pool().await);
        Worker::run(engine, |builder| builder.queue(options), redis)
    }

    /// A process that only starts sagas.
    pub(super) async fn starter(&self, redis: &RedisServer) -> Worker {
        let engine = self.engine_on(self.database.pool().await);
        Worker::run(engine, |builder| builder, Some(redis))
    }

    pub(super) async fn wait_for_all_to_complete(&self) {
        until("every saga has completed", async || {
            let counts = self.counts().await;
            let all = counts.as_ref().is_ok_and(|counts| {
                !counts.is_empty() && counts.iter().all(|(status, _)| status == Status::Completed.name())
            });
            (all, counts)
        })
        .await;
    }

    pub(super) async fn wait_until_ended(&self, enough: i64) {
        until("enough sagas have completed", async || {
            let counts = self.counts().await;
            let completed = |(status, _): &&(String, i64)| status == Status::Completed.name();
            (counts.iter().flatten().find(completed).is_some_and(|(_, count)| *count >= enough), counts)
        })
        .await;
    }

    /// The number of sagas of each status.
    async fn counts(&self) -> Result<Vec<(String, i64)>, sqlx::Error> {
        sqlx::query_as("select status, count(*) from engine.saga group by status").fetch_all(&self.pool).await
    }

    pub(super) async fn assert_each_step_took_effect_once(&self) {
        let wrong: Vec<(Uuid, String, i64)> = sqlx::query_as(
            "select s.id, step.name, count(e.saga_id) from engine.saga s \
             cross join (values ('pack'), ('file')) as step (name) \
             left join effect e on e.saga_id = s.id and e.step = step.name \
             group by s.id, step.name having count(e.saga_id) <> 1",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap();
        assert!(wrong.is_empty(), "not exactly once: {wrong:?}");
    }
}

/// One process's engine and workers.
pub(super) struct Worker {
    pub(super) engine: Engine,
    pub(super) redis: Option<RedisHealth>,
    stop: CancellationToken,
    running: JoinHandle<Result<(), WorkersError>>,
}

impl Worker {
    pub(super) fn run(
        engine: Engine,
        with: impl FnOnce(workers::WorkersBuilder) -> workers::WorkersBuilder,
        redis: Option<&RedisServer>,
    ) -> Self {
        let options = redis.map(|redis| RedisOptions::for_queues(redis.url(), [QUEUE]));
        let workers = with(Workers::builder(engine.clone()))
            .redis(options)
            .shutdown_deadline(DEADLINE)
            .build()
            .unwrap();
        let stop = CancellationToken::new();
        let redis = workers.redis();
        let running = tokio::spawn(workers.run(stop.clone()));
        Self { engine, redis, stop, running }
    }

    pub(super) async fn send(&self, parcel: Parcel) -> SagaId {
        self.engine.start(SEND_PARCEL.with(&parcel)).await.unwrap().saga_id
    }

    pub(super) async fn send_many(&self, count: usize) {
        let sent = self.send_many_whatever_happens(count).await;
        assert_eq!(sent, count);
    }

    /// Returns how many starts were acknowledged.
    pub(super) async fn send_many_whatever_happens(&self, count: usize) -> usize {
        let parcel = Parcel::steady();
        let starts = (0..count).map(|_| self.engine.start(SEND_PARCEL.with(&parcel)));
        futures::future::join_all(starts).await.into_iter().flatten().count()
    }

    pub(super) async fn reached(&self, state: RedisState) {
        let redis = self.redis.as_ref().unwrap();
        tokio::time::timeout(WAIT_TIMEOUT, redis.reached(state)).await.expect("Redis is noticed");
    }

    pub(super) fn assert_runs(&self) {
        assert!(!self.running.is_finished(), "the workers have ended by themselves");
    }

    /// Stops as a process does, and returns the engine.
    pub(super) async fn stop(self) -> Engine {
        self.stop.cancel();
        let ended = tokio::time::timeout(WAIT_TIMEOUT, self.running).await.expect("the workers stop");
        ended.unwrap().unwrap();
        self.engine.shutdown().await;
        self.engine
    }
}

/// Polls until the condition holds; `look` also returns what it saw, for the error.
pub(super) async fn until<T: std::fmt::Debug>(what: &str, mut look: impl AsyncFnMut() -> (bool, T)) {
    let began = Instant::now();
    loop {
        let (so, seen) = look().await;
        if so {
            return;
        }
        assert!(began.elapsed() < WAIT_TIMEOUT, "not within {WAIT_TIMEOUT:?}: {what}; seen last: {seen:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
