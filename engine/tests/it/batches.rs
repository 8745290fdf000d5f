//! Batches: many sagas share a commit, and a failing saga does not affect the others.

use std::time::Duration;

use engine::{Direction, Engine, NewSaga, RetryPolicy, SagaFilter, Status};
use sqlx::PgPool;

use super::fixtures::{self, PLAIN, StepFault, TestEngine, TestInput};

use crate::support::WAIT_TIMEOUT;

async fn start_together(engine: &Engine, sagas: Vec<NewSaga>) {
    let mut transaction = engine.pool().begin().await.unwrap();
    for started in engine.start_in(&mut transaction, sagas).await.unwrap() {
        started.unwrap();
    }
    transaction.commit().await.unwrap();
}

async fn finish_all(engine: &Engine, sagas: &[NewSaga]) {
    for saga in sagas {
        engine.wait(saga.saga_id(), WAIT_TIMEOUT).await.unwrap().expect("every saga ends");
    }
}

/// The number of transactions that wrote runs of history matching the condition.
async fn transactions(pool: &PgPool, condition: &str) -> i64 {
    let sql = format!("select count(distinct xmin::text) from engine.history_run where {condition}");
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(pool).await.unwrap()
}

async fn count(pool: &PgPool, status: Status) -> i64 {
    sqlx::query_scalar("select count(*) from engine.saga where status = $1")
        .bind(status.name())
        .fetch_one(pool)
        .await
        .unwrap()
}

// On a single thread all jobs of a claim are ready when the batch is collected, so the result does not depend on how
// threads interleave.
#[tokio::test]
async fn two_hundred_sagas_commit_all_their_steps_in_one_transaction() {
    let (_database, pool) = fixtures::database().await;
    let engine = Engine::builder(pool.clone()).register(fixtures::plain_saga()).build().unwrap();
    let sagas: Vec<_> = (0..200).map(|_| PLAIN.with(&TestInput::default())).collect();
    start_together(&engine, sagas.clone()).await;
    let test = TestEngine::start(engine);
    finish_all(&test.engine, &sagas).await;
    test.close().await;

    assert_eq!(count(&pool, Status::Completed).await, 200);
    assert_eq!(transactions(&pool, "step = 'pack'").await, 1);
    assert_eq!(
        transactions(&pool, "true").await,
        1,
        "the steps `pack`, `seal` and `file` of all sagas share a commit"
    );
    let writers: i64 =
        sqlx::query_scalar("select count(distinct xmin::text) from effect").fetch_one(&pool).await.unwrap();
    assert_eq!(writers, 1, "the rows that the steps wrote share it too");
    let updates: i64 = sqlx::query_scalar("select count(distinct xmin::text) from engine.saga")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(updates, 1, "the updates of `engine.saga` share it too");
    let entries: i64 =
        sqlx::query_scalar("select count(*) from engine.history").fetch_one(&pool).await.unwrap();
    assert_eq!(entries, 600, "history still shows every step");
}

#[tokio::test]
async fn concurrent_starts_share_a_commit() {
    let (_database, pool) = fixtures::database().await;
    let engine = Engine::builder(pool.clone()).register(fixtures::plain_saga()).build().unwrap();
    let starts = (0..100).map(|_| PLAIN.with(&TestInput::default())).map(|saga| engine.start(saga));
    for started in futures::future::join_all(starts).await {
        started.unwrap();
    }
    let writers: i64 = sqlx::query_scalar("select count(distinct xmin::text) from engine.saga")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(writers, 1);
    engine.shutdown().await;
}

/// Waits until no connection executes a statement that hangs: it is ended when its step is out of time.
async fn expect_no_hanging_statement(pool: &PgPool) {
    let hanging = "select count(*) from pg_stat_activity where datname = current_database() \
         and state <> 'idle' and query like '%pg_sleep%' and pid <> pg_backend_pid()";
    let until_none = async {
        while sqlx::query_scalar::<_, i64>(hanging).fetch_one(pool).await.unwrap() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(WAIT_TIMEOUT, until_none).await.expect("the statement that hangs is ended");
}

/// Runs a batch in which one saga has the fault.
async fn one_of_many_has(fault: StepFault) {
    let (_database, pool) = fixtures::database().await;
    let mut definition = fixtures::plain_saga();
    // The step that hangs reaches this time-out; the others do not.
    let policy = RetryPolicy { timeout: Duration::from_secs(3), ..fixtures::QUICK };
    definition.set_policy("pack", Direction::Action, policy).unwrap();
    let engine = Engine::builder(pool.clone()).register(definition).build().unwrap();
    let mut sagas: Vec<_> = (0..64).map(|_| PLAIN.with(&TestInput::default())).collect();
    let culprit = PLAIN.with(&TestInput::with("pack", fault));
    sagas.insert(41, culprit.clone());
    start_together(&engine, sagas.clone()).await;
    let test = TestEngine::start(engine);
    finish_all(&test.engine, &sagas).await;

    assert_eq!(count(&pool, Status::Completed).await, 64);
    let saga = test.engine.saga(culprit.saga_id()).await.unwrap().unwrap();
    assert_eq!(saga.status, Status::Compensated, "{saga:?}");
    let repeated: i64 =
        sqlx::query_scalar("select count(*) from engine.history where attempt > 1 and saga_id <> $1")
            .bind(culprit.saga_id().0)
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!(repeated, 0, "no other attempt failed");
    assert_eq!(fixtures::effects(&pool, "pack").await, 64);
    expect_no_hanging_statement(&pool).await;
    assert_eq!(test.engine.verify_histories(1000).await.unwrap(), []);
    test.close().await;
}

#[tokio::test]
async fn a_saga_whose_sql_breaks_fails_alone() {
    one_of_many_has(StepFault::SqlError).await;
}

#[tokio::test]
async fn a_saga_that_panics_in_a_batch_fails_alone() {
    one_of_many_has(StepFault::Panics).await;
}

#[tokio::test]
async fn a_saga_that_hangs_in_a_batch_fails_alone_and_costs_no_connection() {
    one_of_many_has(StepFault::Hangs).await;
}

#[tokio::test]
async fn a_saga_that_fails_compensates_in_the_same_commit() {
    let (_database, pool) = fixtures::database().await;
    let engine = Engine::builder(pool.clone()).register(fixtures::plain_saga()).build().unwrap();
    let mut sagas: Vec<_> = (0..20).map(|_| PLAIN.with(&TestInput::default())).collect();
    sagas.extend((0..20).map(|_| PLAIN.with(&TestInput::with("seal", StepFault::Fails))));
    start_together(&engine, sagas.clone()).await;
    let test = TestEngine::start(engine);
    finish_all(&test.engine, &sagas).await;
    test.close().await;
    assert_eq!(count(&pool, Status::Compensated).await, 20);
    assert_eq!(fixtures::effects(&pool, "pack").await, 20);
    assert_eq!(transactions(&pool, "true").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_with_another_transaction_costs_no_attempt() {
    let (database, pool) = fixtures::database().await;
    let mut definition = fixtures::plain_saga();
    // The time-out of this policy is longer than PostgreSQL takes to detect a deadlock.
    definition.set_policy("pack", Direction::Action, RetryPolicy::TRANSACTION).unwrap();
    let engine = Engine::builder(pool.clone()).register(definition).build().unwrap();
    let sagas: Vec<_> = (0..2).map(|_| PLAIN.with(&TestInput::default())).collect();
    start_together(&engine, sagas.clone()).await;
    // The blocker locks the table that the step writes to, and then the sagas that the batch has locked.
    let owner = database.owner_pool().await;
    let mut blocker = owner.begin().await.unwrap();
    sqlx::query("set local deadlock_timeout = '60s'").execute(&mut *blocker).await.unwrap();
    sqlx::query("lock table effect in access exclusive mode").execute(&mut *blocker).await.unwrap();
    let test = TestEngine::start(engine);
    let waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&pool).await.unwrap() == 0 {
        tokio::task::yield_now().await;
    }
    sqlx::query("select id from engine.saga for update").fetch_all(&mut *blocker).await.unwrap();
    blocker.rollback().await.unwrap();
    finish_all(&test.engine, &sagas).await;
    test.close().await;
    assert_eq!(count(&pool, Status::Completed).await, 2);
    let attempts_made: Vec<(String, String, i32, Option<serde_json::Value>)> =
        sqlx::query_as("select step, outcome, attempt, error from engine.history")
            .fetch_all(&pool)
            .await
            .unwrap();
    assert!(attempts_made.iter().all(|(_, _, attempt, _)| *attempt == 1), "{attempts_made:?}");
}

#[tokio::test]
async fn a_filter_finds_sagas_by_status_and_definition() {
    let (_database, pool) = fixtures::database().await;
    let engine = Engine::builder(pool).register(fixtures::plain_saga()).build().unwrap();
    start_together(&engine, vec![PLAIN.with(&TestInput::default())]).await;
    let page = engine::Page { after: None, limit: 10 };
    let filter = |status| SagaFilter {
        status: Some(status),
        definition: Some(PLAIN.name().into()),
        ..SagaFilter::default()
    };
    assert_eq!(engine.sagas(&filter(Status::Running), page).await.unwrap().items.len(), 1);
    assert_eq!(engine.sagas(&filter(Status::Dead), page).await.unwrap().items.len(), 0);
    engine.shutdown().await;
}
