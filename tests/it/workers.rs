//! Sagas kept moving by apalis workers, through stops, lost connections and a Redis that comes and goes.

#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect is to fail")]

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use breakers::{Breaker, BreakerSettings, BreakerState, Dependency};
use engine::{
    Batch, CallStep, Engine, HistoryOutcome, Item, ItemStep, NothingToUndo, Outcome, Outcomes, PerItem,
    RetryPolicy, Saga, SagaId, SagaName, Status, StepError, TransactionStep, Tx,
};
use sqlx::PgPool;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use workers::{QueueOptions, RedisHealth, RedisOptions, RedisState, Workers, WorkersError};

use crate::support::{Database, RedisServer, WAIT_TIMEOUT};

const QUEUE: &str = "parcels";
const SEND_PARCEL: SagaName<Parcel> = SagaName::new("send-parcel");
/// How long steps may go on after a stop.
const DEADLINE: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn a_saga_with_transaction_and_call_steps_runs_through_apalis() {
    let place = Place::new().await;
    let worker = place.worker(QueueOptions::named(QUEUE), None).await;
    let parcel = worker.send(Parcel::steady()).await;
    place.wait_for_all_to_complete().await;
    place.assert_each_step_took_effect_once().await;
    let history = worker.engine.history(parcel).await.unwrap().unwrap();
    let steps: Vec<_> = history.iter().map(|entry| (entry.step.as_str(), entry.outcome)).collect();
    let done = HistoryOutcome::Done;
    assert_eq!(steps, [("pack", done), ("ship", done), ("file", done)]);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_costs_its_saga_one_attempt_and_others_nothing() {
    let place = Place::new().await;
    let worker = place.worker(QueueOptions::named(QUEUE), None).await;
    let mut steady = Vec::new();
    for _ in 0..50 {
        steady.push(worker.send(Parcel::steady()).await);
    }
    let in_call = worker.send(Parcel { panics_at: Some("ship".into()) }).await;
    let in_transaction = worker.send(Parcel { panics_at: Some("file".into()) }).await;
    place.wait_for_all_to_complete().await;
    place.assert_each_step_took_effect_once().await;
    for (saga, step) in [(in_call, "ship"), (in_transaction, "file")] {
        let history = worker.engine.history(saga).await.unwrap().unwrap();
        let attempts: Vec<_> = history.iter().filter(|entry| entry.step == step).collect();
        assert_eq!(attempts.len(), 2, "{attempts:?}");
        assert_eq!(attempts[0].outcome, HistoryOutcome::Retry);
        assert!(attempts[0].error.iter().any(|error| error.contains("panicked")), "{:?}", attempts[0].error);
        assert_eq!(attempts[1].outcome, HistoryOutcome::Done);
    }
    for saga in steady {
        let history = worker.engine.history(saga).await.unwrap().unwrap();
        assert!(history.iter().all(|entry| entry.attempt == 1), "{history:?}");
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_under_load_leaves_no_lease_behind() {
    let place = Place::new().await;
    let options = QueueOptions { concurrency: 100, call_concurrency: 8, ..QueueOptions::named(QUEUE) };
    let worker = place.worker(options, None).await;
    worker.send_many(2_000).await;
    place.wait_until_ended(50).await;
    let engine = worker.stop().await;
    assert_eq!(engine.claim_count(), 0);
    let leased: i64 = sqlx::query_scalar("select count(*) from engine.saga where lease_owner is not null")
        .fetch_one(&place.pool)
        .await
        .unwrap();
    assert_eq!(leased, 0);
    let waiting: i64 =
        sqlx::query_scalar("select count(*) from engine.saga where due_at > now() + interval '1 s'")
            .fetch_one(&place.pool)
            .await
            .unwrap();
    assert_eq!(waiting, 0, "what was released is due at once");
    let left: i64 = sqlx::query_scalar("select count(*) from engine.saga where status = 'running'")
        .fetch_one(&place.pool)
        .await
        .unwrap();
    assert!(left > 0, "the stop came before the end");

    let next = place.worker(QueueOptions::named(QUEUE), None).await;
    place.wait_for_all_to_complete().await;
    place.assert_each_step_took_effect_once().await;
    next.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_gives_up_calls_that_outlast_the_deadline_and_gives_back_those_that_wait() {
    let place = Place::new().await;
    let options = QueueOptions { concurrency: 50, call_concurrency: 4, ..QueueOptions::named(QUEUE) };
    place.calls.hang(true);
    let worker = place.worker(options, None).await;
    worker.send_many(100).await;
    until("calls hang", async || (place.calls.sum() == 4, place.calls.sum())).await;
    let began = Instant::now();
    worker.stop().await;
    assert!(began.elapsed() >= DEADLINE);
    let (leased, in_doubt): (i64, i64) = sqlx::query_as(
        "select count(*) filter (where lease_owner is not null), count(*) filter (where in_doubt) from engine.saga \
         where due_at <= now()",
    )
    .fetch_one(&place.pool)
    .await
    .unwrap();
    assert_eq!((leased, in_doubt), (0, 4));

    place.calls.hang(false);
    let next = place.worker(QueueOptions::named(QUEUE), None).await;
    place.wait_for_all_to_complete().await;
    place.assert_each_step_took_effect_once().await;
    assert_eq!(place.calls.sum(), 104, "only what was under way is called again");
    next.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_outlive_terminated_connections() {
    let place = Place::new().await;
    let worker = place.worker(QueueOptions::named(QUEUE), None).await;
    terminate_connections_while_working(&place, &worker).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_outlive_terminated_connections_with_redis_too() {
    let place = Place::new().await;
    let redis = RedisServer::start().await.unwrap();
    let worker = place.worker(QueueOptions::named(QUEUE), Some(&redis)).await;
    worker.reached(RedisState::Up).await;
    terminate_connections_while_working(&place, &worker).await;
    worker.stop().await;
}

async fn terminate_connections_while_working(place: &Place, worker: &Worker) {
    let mut sent = 0;
    for _ in 0..5 {
        sent += worker.send_many_whatever_happens(100).await;
        sqlx::query(
            "select pg_terminate_backend(pid) from pg_stat_activity \
             where datname = current_database() and pid <> pg_backend_pid()",
        )
        .execute(&place.pool)
        .await
        .ok();
        let ended = i64::try_from(sent / 2).unwrap();
        place.wait_until_ended(ended).await;
    }
    place.wait_for_all_to_complete().await;
    place.assert_each_step_took_effect_once().await;
    worker.assert_runs();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_share_the_load_and_every_step_runs_once() {
    let place = Place::new().await;
    let options = QueueOptions { concurrency: 8, call_concurrency: 8, ..QueueOptions::named(QUEUE) };
    let first = place.worker(options.clone(), None).await;
    let second = place.worker(options, None).await;
    // One may be quicker than the other to take all there is, so they get more until both had some.
    for _ in 0..20 {
        first.send_many(300).await;
        place.wait_for_all_to_complete().await;
        if place.workers_at("ship").await == 2 {
            break;
        }
    }
    place.assert_each_step_took_effect_once().await;
    assert_eq!(place.calls.most(), 1, "no call was made twice");
    assert_eq!(place.workers_at("ship").await, 2);
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_ride_on_redis_from_who_starts_sagas_to_who_works() {
    let place = Place::new().await;
    let redis = RedisServer::start().await.unwrap();
    let starter = place.starter(&redis).await;
    starter.reached(RedisState::Up).await;
    starter.send_many(40).await;
    let waiting = async || {
        ask(&redis, &format!("ZCARD sagaline:{QUEUE}:scheduled")).await
            + ask(&redis, &format!("LLEN sagaline:{QUEUE}:active")).await
    };
    until("the ids are in Redis", async || (waiting().await == 40, waiting().await)).await;
    let worker = place.worker(QueueOptions::named(QUEUE), Some(&redis)).await;
    until("the ids are received", async || (waiting().await == 0, ())).await;
    place.wait_for_all_to_complete().await;
    place.assert_each_step_took_effect_once().await;
    until("Redis keeps nothing of them", async || {
        let kept = ask(&redis, &format!("HLEN sagaline:{QUEUE}:data")).await
            + ask(&redis, &format!("SCARD sagaline:{QUEUE}:done")).await;
        (kept == 0, kept)
    })
    .await;
    starter.stop().await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_flushed_killed_and_absent_loses_nothing() {
    let place = Place::new().await;
    let mut redis = RedisServer::start().await.unwrap();
    let starter = place.starter(&redis).await;
    let worker = place.worker(QueueOptions::named(QUEUE), Some(&redis)).await;
    worker.reached(RedisState::Up).await;
    starter.reached(RedisState::Up).await;

    starter.send_many(100).await;
    tell(&redis, "FLUSHALL").await;
    starter.send_many(100).await;
    place.wait_until_ended(100).await;

    redis.kill();
    worker.reached(RedisState::Down).await;
    starter.send_many(100).await;
    worker.send_many(100).await;
    place.wait_for_all_to_complete().await;

    redis.restart().await.unwrap();
    worker.reached(RedisState::Up).await;
    starter.reached(RedisState::Up).await;
    starter.send_many(100).await;
    place.wait_for_all_to_complete().await;
    place.assert_each_step_took_effect_once().await;
    worker.assert_runs();
    starter.stop().await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_stays_away_is_left_alone_and_found_again() {
    let place = Place::new().await;
    let mut redis = RedisServer::start().await.unwrap();
    redis.kill();
    let settings =
        BreakerSettings { failures: 2, open_duration: Duration::from_millis(50), successes_to_close: 1 };
    let breaker = Breaker::new(Dependency::Redis, settings);
    let engine = place.engine_on(place.database.pool().await);
    let worker = Worker::run(engine, |builder| builder.redis_breaker(breaker.clone()), Some(&redis));
    until("the breaker opens, and its probes fail", async || {
        let view = breaker.view();
        (view.failures >= 4 && view.state != BreakerState::Closed, view)
    })
    .await;
    redis.restart().await.unwrap();
    worker.reached(RedisState::Up).await;
    assert_eq!(breaker.state(), BreakerState::Closed);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_start_without_their_redis_and_find_it_later() {
    let place = Place::new().await;
    let mut redis = RedisServer::start().await.unwrap();
    redis.kill();
    let worker = place.worker(QueueOptions::named(QUEUE), Some(&redis)).await;
    worker.send_many(50).await;
    place.wait_for_all_to_complete().await;
    assert_eq!(worker.redis.as_ref().unwrap().state(), RedisState::Down);
    redis.restart().await.unwrap();
    worker.reached(RedisState::Up).await;
    worker.send_many(50).await;
    place.wait_for_all_to_complete().await;
    worker.stop().await;
}

#[tokio::test]
async fn options_that_contradict_themselves_are_refused() {
    let place = Place::new().await;
    let engine = place.engine();
    let builder = || Workers::builder(engine.clone()).queue(QueueOptions::named(QUEUE));
    let twice = builder().queue(QueueOptions::named(QUEUE)).build();
    assert!(matches!(twice, Err(WorkersError::QueueTwice(_))));
    let idle = builder().queue(QueueOptions { call_concurrency: 0, ..QueueOptions::named("other") }).build();
    assert!(matches!(idle, Err(WorkersError::NoConcurrency(_))));
    let url = "http://user:secret@localhost";
    let options = RedisOptions::for_queues(url, [QUEUE]);
    assert!(!format!("{options:?}").contains("secret"));
    let error = builder().redis(Some(options)).build().unwrap_err();
    assert!(matches!(error, WorkersError::BadRedisUrl(_)));
    assert!(!format!("{error:?}").contains("secret"));
}

/// What a parcel's saga is started with.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
struct Parcel {
    /// The step whose first attempt panics.
    panics_at: Option<String>,
}

impl Parcel {
    fn steady() -> Self {
        Self { panics_at: None }
    }

    fn panic_at(&self, step: &str, attempt: u32) {
        assert!(attempt > 1 || self.panics_at.as_deref() != Some(step), "as the test wants it");
    }
}

/// A transaction step over a set.
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

    async fn call(&self, item: &Item<Parcel>) -> Outcome<()> {
        item.input.panic_at(Self::NAME, item.attempt);
        self.0.count(item.saga_id);
        self.0.answer().await;
        Outcome::Done(())
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

/// The outside world: how often it was called for each saga, and whether it answers.
#[derive(Clone, Default)]
struct Calls {
    counts: Arc<Mutex<HashMap<SagaId, u32>>>,
    hang: Arc<AtomicBool>,
}

impl Calls {
    fn count(&self, saga_id: SagaId) {
        *self.counts.lock().unwrap().entry(saga_id).or_default() += 1;
    }

    fn most(&self) -> u32 {
        self.counts.lock().unwrap().values().copied().max().unwrap_or(0)
    }

    fn sum(&self) -> u32 {
        self.counts.lock().unwrap().values().sum()
    }

    fn hang(&self, hang: bool) {
        self.hang.store(hang, Ordering::SeqCst);
    }

    async fn answer(&self) {
        if self.hang.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A database, and whatever works on it.
struct Place {
    database: Database,
    pool: PgPool,
    calls: Calls,
}

impl Place {
    /// How many processes did a step.
    async fn workers_at(&self, step: &str) -> i64 {
        sqlx::query_scalar("select count(distinct worker) from engine.history where step = $1")
            .bind(step)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    async fn new() -> Self {
        let database = Database::fresh().await;
        let pool = database.pool().await;
        sqlx::query("create table effect (saga_id uuid not null, step text not null)")
            .execute(&pool)
            .await
            .unwrap();
        Self { database, pool, calls: Calls::default() }
    }

    fn engine(&self) -> Engine {
        self.engine_on(self.pool.clone())
    }

    fn engine_on(&self, pool: PgPool) -> Engine {
        let definition = Saga::named(SEND_PARCEL)
            .queue(QUEUE)
            .then(Pack)
            .then_call(Ship(self.calls.clone()))
            .then(PerItem(File))
            .build()
            .unwrap();
        Engine::builder(pool).register(definition).build().unwrap()
    }

    /// A process that works on the queue.
    async fn worker(&self, options: QueueOptions, redis: Option<&RedisServer>) -> Worker {
        let engine = self.engine_on(self.database.pool().await);
        Worker::run(engine, |builder| builder.queue(options), redis)
    }

    /// A process that only starts sagas.
    async fn starter(&self, redis: &RedisServer) -> Worker {
        let engine = self.engine_on(self.database.pool().await);
        Worker::run(engine, |builder| builder, Some(redis))
    }

    async fn wait_for_all_to_complete(&self) {
        until("every saga has completed", async || {
            let counts = self.counts().await;
            let all = counts.as_ref().is_ok_and(|counts| {
                !counts.is_empty() && counts.iter().all(|(status, _)| status == Status::Completed.name())
            });
            (all, counts)
        })
        .await;
    }

    async fn wait_until_ended(&self, enough: i64) {
        until("enough sagas have completed", async || {
            let counts = self.counts().await;
            let completed = |(status, _): &&(String, i64)| status == Status::Completed.name();
            (counts.iter().flatten().find(completed).is_some_and(|(_, count)| *count >= enough), counts)
        })
        .await;
    }

    async fn counts(&self) -> Result<Vec<(String, i64)>, sqlx::Error> {
        sqlx::query_as("select status, count(*) from engine.saga group by status").fetch_all(&self.pool).await
    }

    async fn assert_each_step_took_effect_once(&self) {
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
struct Worker {
    engine: Engine,
    redis: Option<RedisHealth>,
    stop: CancellationToken,
    running: JoinHandle<Result<(), WorkersError>>,
}

impl Worker {
    fn run(
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

    async fn send(&self, parcel: Parcel) -> SagaId {
        self.engine.start(SEND_PARCEL.with(&parcel)).await.unwrap().saga_id
    }

    async fn send_many(&self, count: usize) {
        let sent = self.send_many_whatever_happens(count).await;
        assert_eq!(sent, count);
    }

    /// Gives how many starts were acknowledged.
    async fn send_many_whatever_happens(&self, count: usize) -> usize {
        let parcel = Parcel::steady();
        let starts = (0..count).map(|_| self.engine.start(SEND_PARCEL.with(&parcel)));
        futures::future::join_all(starts).await.into_iter().flatten().count()
    }

    async fn reached(&self, state: RedisState) {
        let redis = self.redis.as_ref().unwrap();
        tokio::time::timeout(WAIT_TIMEOUT, redis.reached(state)).await.expect("Redis is noticed");
    }

    fn assert_runs(&self) {
        assert!(!self.running.is_finished(), "the workers have ended by themselves");
    }

    /// Stops as a process does, and gives the engine for a look.
    async fn stop(self) -> Engine {
        self.stop.cancel();
        let ended = tokio::time::timeout(WAIT_TIMEOUT, self.running).await.expect("the workers stop");
        ended.unwrap().unwrap();
        self.engine.shutdown().await;
        self.engine
    }
}

/// Looks until it is so; `look` gives what it saw, too.
async fn until<T: std::fmt::Debug>(what: &str, mut look: impl AsyncFnMut() -> (bool, T)) {
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

/// Asks Redis for a number.
async fn ask(redis: &RedisServer, command: &str) -> u64 {
    let line = tell(redis, command).await;
    let number = line.strip_prefix(':').map(str::parse);
    number.unwrap_or_else(|| panic!("{command}: {line}")).unwrap()
}

async fn tell(redis: &RedisServer, command: &str) -> String {
    let url = redis.url();
    let mut stream = TcpStream::connect(url.strip_prefix("redis://").unwrap()).await.unwrap();
    stream.write_all(format!("{command}\r\n").as_bytes()).await.unwrap();
    let mut line = String::new();
    BufReader::new(&mut stream).read_line(&mut line).await.unwrap();
    line.trim_end().to_owned()
}
