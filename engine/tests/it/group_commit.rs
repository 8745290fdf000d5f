//! The group commit continues while some of its sagas wait for a lock, or for a step that hangs.

use std::time::Duration;

use engine::{
    Batch, Definition, Direction, Engine, ForwardOnly, NewSaga, Outcome, Outcomes, RetryPolicy, Saga,
    SagaName, Status, StepError, TransactionStep, Tx,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::{
    AssertSqlSafe, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::fixtures::{self, PLAIN, StepFault, TestEngine, TestInput};
use crate::support::{Database, WAIT_TIMEOUT, as_owner};

const FETCH: SagaName<Shelf> = SagaName::new("fetch");

#[derive(Clone, Serialize, Deserialize, JsonSchema)]
struct Shelf {
    shelf: i32,
}

/// Updates one row for each shelf, so that sagas with the same shelf contend for a lock.
struct Take;

impl TransactionStep for Take {
    const NAME: &'static str = "take";
    type Input = Shelf;
    type Output = i32;
    type Undo = ForwardOnly;

    async fn run(&self, tx: &mut Tx<'_>, batch: &Batch<Shelf>) -> Result<Outcomes<i32>, StepError> {
        let mut shelves: Vec<i32> = batch.iter().map(|item| item.input.shelf).collect();
        shelves.sort_unstable();
        for shelf in shelves {
            sqlx::query("update shelf set taken = taken + 1 where id = $1")
                .bind(shelf)
                .execute(&mut **tx)
                .await?;
        }
        Ok(batch.decide(|item| Outcome::Done(item.input.shelf)))
    }
}

/// A pool whose connections have the lock time-out of a production worker.
async fn shelves() -> (Database, PgPool) {
    let database = Database::fresh().await;
    let options: PgConnectOptions = database.url().parse().unwrap();
    let options = options.options([("lock_timeout", "1500ms")]);
    let pool = PgPoolOptions::new().max_connections(10).connect_with(options).await.unwrap();
    sqlx::query("create table shelf as select id, 0 as taken from generate_series(1, 16) as s (id)")
        .execute(&pool)
        .await
        .unwrap();
    sqlx::query("create index on shelf (id)").execute(&pool).await.unwrap();
    (database, pool)
}

async fn start_together(engine: &Engine, sagas: Vec<NewSaga>) {
    let mut transaction = engine.pool().begin().await.unwrap();
    for started in engine.start_in(&mut transaction, sagas).await.unwrap() {
        started.unwrap();
    }
    transaction.commit().await.unwrap();
}

/// A saga that takes from this shelf.
fn fetch_from(shelf: i32) -> NewSaga {
    FETCH.with(&Shelf { shelf })
}

/// How much the sagas have taken from all shelves.
async fn taken(pool: &PgPool) -> i64 {
    sqlx::query_scalar("select sum(taken) from shelf").fetch_one(pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_row_delays_only_the_sagas_that_need_it() {
    let (_database, pool) = shelves().await;
    let saga = Saga::named(FETCH).pivot(Take).build().unwrap();
    let engine = Engine::builder(pool.clone()).register(saga).build().unwrap();
    let mut blocker = pool.begin().await.unwrap();
    sqlx::query("select id from shelf where id = 7 for update").execute(&mut *blocker).await.unwrap();
    // Four of the 64 sagas of one batch need the locked row.
    let (needs_lock, free): (Vec<_>, Vec<_>) =
        (0..64).map(|nth| (nth % 16 + 1, fetch_from(nth % 16 + 1))).partition(|(shelf, _)| *shelf == 7);
    let sagas = needs_lock.iter().chain(&free).map(|(_, saga)| saga.clone()).collect();
    start_together(&engine, sagas).await;
    let test = TestEngine::start(engine);
    let engine = &test.engine;
    for (_, saga) in &free {
        let ending = engine
            .wait(saga.saga_id(), WAIT_TIMEOUT)
            .await
            .unwrap()
            .expect("it does not wait for the locked row");
        assert_eq!(ending.status, Status::Completed);
    }
    // Sagas that are started later do not wait for the lock either.
    let later: Vec<_> = (0..20).map(|_| fetch_from(3)).collect();
    start_together(engine, later.clone()).await;
    for saga in &later {
        let ending = engine.wait(saga.saga_id(), WAIT_TIMEOUT).await.unwrap().unwrap();
        assert_eq!(ending.status, Status::Completed);
    }
    let stored_error = async {
        loop {
            let error = engine.saga(needs_lock[0].1.saga_id()).await.unwrap().unwrap().error;
            if let Some(error) = error {
                return error;
            }
            tokio::task::yield_now().await;
        }
    };
    let error =
        tokio::time::timeout(WAIT_TIMEOUT, stored_error).await.expect("it shows the reason for the delay");
    assert!(error.starts_with("waits for a lock that another transaction holds"), "{error}");
    assert_eq!(taken(&pool).await, 80);

    blocker.rollback().await.unwrap();
    for (_, saga) in &needs_lock {
        let ending = engine
            .wait(saga.saga_id(), WAIT_TIMEOUT)
            .await
            .unwrap()
            .expect("it completes once the lock is released");
        assert_eq!(ending.status, Status::Completed);
    }
    assert_eq!(taken(&pool).await, 84, "each took once");
    let attempts: i32 =
        sqlx::query_scalar("select max(attempt) from engine.history").fetch_one(&pool).await.unwrap();
    assert_eq!(attempts, 1, "waiting costs no attempt");
    assert_eq!(engine.verify_histories(100).await.unwrap(), []);
    test.close().await;
    let leased: i64 = sqlx::query_scalar("select count(*) from engine.saga where lease_owner is not null")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(leased, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sagas_that_a_locked_row_holds_up_take_no_room_and_one_of_them_is_tried() {
    let (_database, pool) = shelves().await;
    let saga = Saga::named(FETCH).pivot(Take).build().unwrap();
    let builder = Engine::builder(pool.clone()).register(saga).max_batch(16);
    let test = TestEngine::build(builder);
    let engine = &test.engine;
    let mut blocker = pool.begin().await.unwrap();
    sqlx::query("select id from shelf where id = 7 for update").execute(&mut *blocker).await.unwrap();
    // Far more than there is room for beside the group commit.
    let needs_lock: Vec<_> = (0..200).map(|_| fetch_from(7)).collect();
    start_together(engine, needs_lock.clone()).await;
    // All but the scout are given back.
    let given_back =
        "select count(*) >= 199 from engine.saga where waits_for = 'lock' and lease_owner is null";
    fixtures::holds(&pool, given_back).await;
    for _ in 0..20 {
        let (_, ending) = engine.start_and_wait(fetch_from(3), WAIT_TIMEOUT).await.unwrap();
        assert_eq!(ending.unwrap().status, Status::Completed);
    }
    fixtures::holds(&pool, given_back).await;
    let told = "select bool_or(error like 'waits for a lock that another transaction holds (session %') from engine.saga";
    fixtures::holds(&pool, told).await;

    blocker.rollback().await.unwrap();
    for saga in &needs_lock {
        let ending = engine.wait(saga.saga_id(), WAIT_TIMEOUT).await.unwrap().unwrap();
        assert_eq!(ending.status, Status::Completed);
    }
    assert_eq!(taken(&pool).await, 220);
    let attempts: i32 =
        sqlx::query_scalar("select max(attempt) from engine.history").fetch_one(&pool).await.unwrap();
    assert_eq!(attempts, 1, "waiting costs no attempt");
    test.close().await;
}

/// Makes every change of this saga's row fail.
async fn refuse_changes(pool: &PgPool, saga: &NewSaga) {
    let trigger = format!(
        "create function refuse() returns trigger language plpgsql as $$
         begin raise exception 'the row can not be changed' using errcode = 'XX001'; end $$;
         create trigger refuse before update on engine.saga
             for each row when (new.id = '{}') execute function refuse()",
        saga.saga_id()
    );
    as_owner(pool, &trigger).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saga_that_is_held_up_and_can_not_be_changed_stops_no_other() {
    let (_database, pool) = shelves().await;
    let saga = || Saga::named(FETCH).pivot(Take).build().unwrap();
    let test = TestEngine::build(Engine::builder(pool.clone()).register(saga()));
    let mut blocker = pool.begin().await.unwrap();
    sqlx::query("select id from shelf where id = 7 for update").execute(&mut *blocker).await.unwrap();
    let needs_lock: Vec<_> = (0..8).map(|_| fetch_from(7)).collect();
    start_together(&test.engine, needs_lock.clone()).await;
    let (bad, others) = needs_lock.split_first().unwrap();
    let waits = format!("select waits_for = 'lock' from engine.saga where id = '{}'", bad.saga_id());
    fixtures::holds(&pool, "select count(*) >= 7 from engine.saga where waits_for = 'lock'").await;
    fixtures::holds(&pool, &waits).await;
    refuse_changes(&pool, bad).await;
    test.close().await;
    let due: i64 =
        sqlx::query_scalar("select count(*) from engine.saga where due_at <= now() and lease_owner is null")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert!(due >= 7, "another process finds the others at once: {due}");

    // The other process holds them up as well, until the lock is free.
    let test = TestEngine::build(Engine::builder(pool.clone()).register(saga()));
    fixtures::holds(&pool, "select count(*) >= 7 from engine.saga where waits_for = 'lock'").await;
    blocker.rollback().await.unwrap();
    for saga in others {
        let ending = test.engine.wait(saga.saga_id(), WAIT_TIMEOUT).await.unwrap().unwrap();
        assert_eq!(ending.status, Status::Completed);
    }
    as_owner(&pool, "drop trigger refuse on engine.saga").await.unwrap();
    sqlx::query("update engine.saga set due_at = now() where due_at is not null")
        .execute(&pool)
        .await
        .unwrap();
    let ending = test.engine.wait(bad.saga_id(), WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(ending.status, Status::Completed);
    test.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sagas_that_are_held_up_are_due_when_the_engine_stops() {
    let (_database, pool) = shelves().await;
    let saga = || Saga::named(FETCH).pivot(Take).build().unwrap();
    let test = TestEngine::build(Engine::builder(pool.clone()).register(saga()));
    let mut blocker = pool.begin().await.unwrap();
    sqlx::query("select id from shelf where id = 7 for update").execute(&mut *blocker).await.unwrap();
    let needs_lock: Vec<_> = (0..8).map(|_| fetch_from(7)).collect();
    start_together(&test.engine, needs_lock.clone()).await;
    fixtures::holds(&pool, "select count(*) >= 7 from engine.saga where waits_for = 'lock'").await;
    test.close().await;
    let due: i64 =
        sqlx::query_scalar("select count(*) from engine.saga where due_at <= now() and lease_owner is null")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!(due, 8, "another process finds them at once");
    blocker.rollback().await.unwrap();
    let test = TestEngine::build(Engine::builder(pool).register(saga()));
    for saga in &needs_lock {
        let ending = test.engine.wait(saga.saga_id(), WAIT_TIMEOUT).await.unwrap().unwrap();
        assert_eq!(ending.status, Status::Completed);
    }
    test.close().await;
}

/// The definition with these attempts and this time-out for its first step.
fn with_policy(mut definition: Definition, attempts: u32, timeout: Duration) -> Definition {
    let policy = RetryPolicy { timeout, attempts, ..RetryPolicy::TRANSACTION };
    definition.set_policy("pack", Direction::Action, policy).unwrap();
    definition
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saga_that_hangs_until_its_time_out_does_not_delay_others() {
    let (_database, pool) = fixtures::database().await;
    let definition = with_policy(fixtures::plain_saga(), 1000, Duration::from_secs(25));
    let test = TestEngine::build(Engine::builder(pool.clone()).register(definition));
    let engine = &test.engine;
    let hangs = PLAIN.with(&TestInput::with("pack", StepFault::Hangs));
    engine.start(hangs.clone()).await.unwrap();
    let hanging = "from pg_stat_activity where datname = current_database() and query like '%pg_sleep(600)%' \
         and pid <> pg_backend_pid()";
    let count = format!("select count(*) {hanging}");
    while sqlx::query_scalar::<_, i64>(AssertSqlSafe(count.clone())).fetch_one(&pool).await.unwrap() == 0 {
        tokio::task::yield_now().await;
    }
    for _ in 0..20 {
        let (_, ending) =
            engine.start_and_wait(PLAIN.with(&TestInput::default()), WAIT_TIMEOUT).await.unwrap();
        assert_eq!(ending.unwrap().status, Status::Completed);
    }
    // It is tried alone now.
    fixtures::holds(&pool, &format!("select exists (select {hanging})")).await;
    let saga = engine.saga(hangs.saga_id()).await.unwrap().unwrap();
    assert_eq!(saga.status, Status::Running, "it still hangs: {saga:?}");
    engine.cancel(hangs.saga_id(), "ada", "it hangs").await.unwrap();
    let cancel = format!("select pg_cancel_backend(pid) {hanging}");
    sqlx::query(AssertSqlSafe(cancel)).execute(&pool).await.unwrap();
    let ending = engine.wait(hangs.saga_id(), WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(ending.status, Status::Compensated);
    test.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saga_that_hangs_ends_by_the_time_out_of_its_policy() {
    let (_database, pool) = fixtures::database().await;
    let definition = with_policy(fixtures::plain_saga(), 1, Duration::from_secs(4));
    let test = TestEngine::build(Engine::builder(pool).register(definition));
    let engine = &test.engine;
    let hangs = PLAIN.with(&TestInput::with("pack", StepFault::Hangs));
    let (started, ending) = engine.start_and_wait(hangs, WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Compensated);
    let history = engine.history(started.saga_id).await.unwrap().unwrap();
    assert!(history[0].error[0].contains("4000 ms"), "{history:?}");
    test.close().await;
}
