//! Hints between processes: due sagas, and ends that a caller waits for in another process.

use std::time::Duration;

use engine::{
    Batch, Definition, Engine, EngineBuilder, NothingToUndo, Outcome, Outcomes, Saga, SagaId, SagaName,
    Status, StepError, TransactionStep, Tx,
};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};

use super::fixtures::{self, ExternalWorld, FULL, PLAIN, TestEngine, TestInput};

use crate::support::{Database, WAIT_TIMEOUT};

/// So long that no test is saved by a poll.
const NEVER: Duration = Duration::from_hours(1);

const PARENT: SagaName<TestInput> = SagaName::new("parent-saga");

/// Starts a saga in its own transaction.
struct StartPlain;

impl TransactionStep for StartPlain {
    const NAME: &'static str = "start-plain";
    type Input = TestInput;
    type Output = ();
    type Undo = NothingToUndo;

    async fn run(&self, tx: &mut Tx<'_>, batch: &Batch<TestInput>) -> Result<Outcomes<()>, StepError> {
        let sagas = batch.iter().map(|_| PLAIN.with(&TestInput::default())).collect();
        tx.start(sagas).await?;
        Ok(batch.decide(|_| Outcome::Done(())))
    }
}

fn parent_saga() -> Definition {
    Saga::named(PARENT).queue("parents").then(StartPlain).build().unwrap()
}

/// Records every notification of the engine with its transaction, and passes it on.
async fn record_notifications(database: &Database) -> PgPool {
    let options: PgConnectOptions = database.owner_url().parse().unwrap();
    let options = options.options([("search_path", "recorded,public,pg_catalog")]);
    let pool = PgPoolOptions::new().max_connections(10).connect_with(options).await.unwrap();
    for statement in [
        "create schema recorded",
        "create table recorded.notification (channel text, payload text, xid text)",
        "create function recorded.pg_notify(channel text, payload text) returns void language sql volatile \
         begin atomic \
             insert into recorded.notification values (channel, payload, pg_current_xact_id()::text); \
             select pg_catalog.pg_notify(channel, payload); \
         end",
    ] {
        sqlx::query(statement).execute(&pool).await.unwrap();
    }
    pool
}

/// The number of hints that sagas of the queue `default` are due, and how many of them were sent by a transaction that wrote sagas.
async fn due_hints(pool: &PgPool) -> (i64, i64) {
    sqlx::query_as(
        "select count(*), count(*) filter (where xid in (select xmin::text from engine.saga)) \
         from recorded.notification where channel = 'engine_due' and payload = 'default'",
    )
    .fetch_one(pool)
    .await
    .unwrap()
}

fn builder(pool: &PgPool) -> EngineBuilder {
    Engine::builder(pool.clone()).register(fixtures::plain_saga()).poll(NEVER).end_poll(NEVER)
}

/// Waits until the connections that listen have sent this as their last statement.
async fn wait_for_listeners(pool: &PgPool, channel: &str, listeners: i64) {
    let count = "select count(*) from pg_stat_activity \
                 where datname = current_database() and state = 'idle' and query = $1";
    let statement = format!("LISTEN \"{channel}\"");
    while sqlx::query_scalar::<_, i64>(count).bind(&statement).fetch_one(pool).await.unwrap() != listeners {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Ends a saga as a process would that tells nobody.
async fn end_silently(conn: &mut sqlx::PgConnection, saga_id: SagaId) {
    let end = "update engine.saga set status = 'completed', due_at = null, ended_at = now() where id = $1";
    sqlx::query(end).bind(saga_id).execute(conn).await.unwrap();
}

#[tokio::test]
async fn starts_do_not_notify_in_their_commit_and_their_hints_leave_together() {
    let database = Database::fresh().await;
    let pool = record_notifications(&database).await;
    let engine = builder(&pool).lease(Duration::from_mins(5)).build().unwrap();

    // No hint can be sent now, but commits go on.
    let mut blocked = pool.begin().await.unwrap();
    sqlx::query("lock table recorded.notification").execute(&mut *blocked).await.unwrap();
    for _ in 0..20 {
        engine.start(PLAIN.with(&TestInput::default())).await.unwrap();
    }
    blocked.rollback().await.unwrap();
    engine.shutdown().await;

    let (hints, in_commits) = due_hints(&pool).await;
    assert_eq!(in_commits, 0);
    assert!((1..=3).contains(&hints), "{hints} hints: one was being sent, and the rest is one");
}

#[tokio::test]
async fn sagas_that_a_step_starts_are_told_after_its_commit() {
    let database = Database::fresh().await;
    let pool = record_notifications(&database).await;
    let engine = builder(&pool).register(parent_saga()).build().unwrap();
    let mut feed = engine.feed("parents", 1);
    engine.start(PARENT.with(&TestInput::default())).await.unwrap();
    let job = super::claims::next(&mut feed).await;
    let performed = engine.perform(&job).await;
    engine.commit(job, performed).await;
    feed.close();
    engine.shutdown().await;
    assert_eq!(due_hints(&pool).await, (1, 0));
}

#[tokio::test]
async fn a_start_in_a_callers_transaction_notifies_in_that_transaction() {
    let database = Database::fresh().await;
    let pool = record_notifications(&database).await;
    let engine = builder(&pool).build().unwrap();
    let mut transaction = pool.begin().await.unwrap();
    let sagas = vec![PLAIN.with(&TestInput::default()), PLAIN.with(&TestInput::default())];
    engine.start_in(&mut transaction, sagas).await.unwrap();
    transaction.commit().await.unwrap();
    engine.shutdown().await;
    assert_eq!(due_hints(&pool).await, (1, 1));
}

#[tokio::test]
async fn a_saga_that_another_process_starts_is_claimed_without_a_poll() {
    let (_database, pool) = fixtures::database().await;
    let caller = Engine::builder(pool.clone()).register(fixtures::plain_saga()).build().unwrap();
    let test = TestEngine::build(builder(&pool));
    wait_for_listeners(&pool, "engine_due", 1).await;
    let started = caller.start(PLAIN.with(&TestInput::default())).await.unwrap();
    let ending = caller.wait(started.saga_id, WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Completed);
    caller.shutdown().await;
    test.close().await;
}

#[tokio::test]
async fn an_end_in_another_process_is_told_and_needs_no_poll() {
    let (_database, pool) = fixtures::database().await;
    let world = ExternalWorld::default();
    world.answers.send_replace(false);
    let mut told = PgListener::connect_with(&pool).await.unwrap();
    told.listen("engine_ended").await.unwrap();
    let test = TestEngine::build(builder(&pool).register(fixtures::full_saga(&world)));
    let caller = builder(&pool).register(fixtures::full_saga(&world)).build().unwrap();
    let done = TestInput::with("none", fixtures::StepFault::Fails);
    let fails = TestInput::with("send", fixtures::StepFault::Fails);
    let (completed, compensated) = (FULL.with(&done), FULL.with(&fails));
    let waits = tokio::spawn({
        let caller = caller.clone();
        async move {
            let wait = |saga| caller.start_and_wait(saga, WAIT_TIMEOUT);
            tokio::join!(wait(completed), wait(compensated))
        }
    });
    // Other sagas end until the working process tells their ends, so that it is known to have heard who waits.
    let heard = loop {
        let other = caller.start(PLAIN.with(&TestInput::default())).await.unwrap();
        while caller.saga(other.saga_id).await.unwrap().unwrap().status.is_active() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if let Ok(heard) = tokio::time::timeout(Duration::from_millis(50), told.recv()).await {
            break heard.unwrap();
        }
    };
    assert!(heard.payload().starts_with('+'), "{}", heard.payload());

    world.answers.send_replace(true);
    let (completed, compensated) = waits.await.unwrap();
    assert_eq!(completed.unwrap().1.unwrap().status, Status::Completed);
    let ending = compensated.unwrap().1.unwrap();
    assert_eq!(ending.status, Status::Compensated);
    assert!(ending.cause.is_some(), "the cause is read from the database");
    caller.shutdown().await;
    test.close().await;
}

#[tokio::test]
async fn ends_are_not_told_while_nobody_waits_elsewhere() {
    let database = Database::fresh().await;
    let pool = record_notifications(&database).await;
    sqlx::query("create table effect (saga_id uuid not null, step text not null, change int not null)")
        .execute(&pool)
        .await
        .unwrap();
    let test = TestEngine::build(builder(&pool));
    wait_for_listeners(&pool, "engine_due", 1).await;
    test.engine.start_and_wait(PLAIN.with(&TestInput::default()), WAIT_TIMEOUT).await.unwrap();
    test.close().await;
    let ends: i64 =
        sqlx::query_scalar("select count(*) from recorded.notification where channel = 'engine_ended'")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!(ends, 0);
}

#[tokio::test]
async fn the_poll_finds_an_end_that_nobody_tells() {
    let (_database, pool) = fixtures::database().await;
    let caller = Engine::builder(pool.clone()).register(fixtures::plain_saga()).build().unwrap();
    let started = caller.start(PLAIN.with(&TestInput::default())).await.unwrap();
    let wait = tokio::spawn({
        let caller = caller.clone();
        async move { caller.wait(started.saga_id, WAIT_TIMEOUT).await }
    });
    wait_for_listeners(&pool, "engine_ended", 1).await;
    end_silently(&mut pool.acquire().await.unwrap(), started.saga_id).await;
    assert_eq!(wait.await.unwrap().unwrap().unwrap().status, Status::Completed);
    caller.shutdown().await;
}

#[tokio::test]
async fn an_end_that_was_missed_while_the_connection_was_lost_is_found_when_it_is_back() {
    let (_database, pool) = fixtures::database().await;
    let caller = builder(&pool).build().unwrap();
    let started = caller.start(PLAIN.with(&TestInput::default())).await.unwrap();
    let wait = tokio::spawn({
        let caller = caller.clone();
        async move { caller.wait(started.saga_id, WAIT_TIMEOUT).await }
    });
    wait_for_listeners(&pool, "engine_ended", 1).await;
    let mut transaction = pool.begin().await.unwrap();
    end_silently(&mut transaction, started.saga_id).await;
    transaction.commit().await.unwrap();
    let cut = "select pg_terminate_backend(pid) from pg_stat_activity \
               where datname = current_database() and query = 'LISTEN \"engine_ended\"'";
    sqlx::query(cut).execute(&pool).await.unwrap();
    assert_eq!(wait.await.unwrap().unwrap().unwrap().status, Status::Completed);
    caller.shutdown().await;
}
