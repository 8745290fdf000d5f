//! A saga sleeps without a claim, and goes on when its time has come.

use std::time::Duration;

use chrono::{DateTime, Utc};
use engine::{
    Cause, Definition, Engine, HistoryOutcome, Saga, SagaName, SkipWaitError, Slept, Status,
    testing::{end_waits, make_all_due},
};

use super::{
    super::fixtures::{self, File, Pack, Seal, TestEngine, TestInput},
    LONG, done, history, verified, waiting,
};
use crate::support::WAIT_TIMEOUT;

const SLEEPER: SagaName<TestInput> = SagaName::new("sleeper");

fn sleeper(time: Duration) -> Definition {
    Saga::named(SLEEPER).then(Pack).sleep("rest", time).pivot(Seal).build().unwrap()
}

#[tokio::test]
async fn a_saga_goes_on_when_its_time_has_come() {
    let (_database, pool) = fixtures::database().await;
    let time = Duration::from_millis(300);
    let test = TestEngine::build(Engine::builder(pool).register(sleeper(time)));
    let saga = SLEEPER.with(&TestInput::default());
    let (started, ending) = test.engine.start_and_wait(saga, WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Completed);
    let entries = history(&test.engine, started.saga_id).await;
    let steps: Vec<_> =
        entries.iter().map(|entry| (entry.step.as_str(), entry.outcome, entry.attempt)).collect();
    let once = |step| (step, HistoryOutcome::Done, 1);
    assert_eq!(steps, [once("pack"), once("rest"), once("seal")]);
    let rest = &entries[1];
    assert!(rest.duration_ms >= 300, "the entry says how long it slept: {rest:?}");
    let slept: Slept = serde_json::from_value(rest.output.clone().unwrap()).unwrap();
    assert!(slept.until <= entries[2].started_at && slept.until > entries[0].started_at);
    verified(&test.engine).await;
    test.close().await;
}

#[tokio::test]
async fn a_sleeping_saga_is_held_by_nobody_and_waking_it_in_vain_leaves_no_trace() {
    let (_database, pool) = fixtures::database().await;
    let test = TestEngine::build(Engine::builder(pool.clone()).register(sleeper(LONG)));
    let started = test.engine.start(SLEEPER.with(&TestInput::default())).await.unwrap();
    let until = waiting(&pool, started.saga_id).await;
    let saga = test.engine.saga(started.saga_id).await.unwrap().unwrap();
    assert_eq!((saga.lease_owner, saga.attempt, saga.step.as_str()), (None, 0, "rest"));
    assert_eq!(
        (saga.waits_for.as_deref(), saga.wait_until, saga.due_at),
        (Some("sleep"), Some(until), Some(until))
    );
    assert_eq!(test.engine.claim_count(), 0);
    for _ in 0..6 {
        let epoch = test.engine.saga(started.saga_id).await.unwrap().unwrap().epoch;
        sqlx::query("update engine.saga set due_at = now()").execute(&pool).await.unwrap();
        fixtures::holds(&pool, &format!("select epoch > {epoch} and waits_for = 'sleep' from engine.saga"))
            .await;
    }
    let saga = test.engine.saga(started.saga_id).await.unwrap().unwrap();
    assert_eq!((saga.attempt, saga.wait_until, saga.due_at), (0, Some(until), Some(until)), "computed once");
    assert_eq!(history(&test.engine, started.saga_id).await.len(), 1, "no row but that of the step before");
    assert_eq!(make_all_due(&pool).await.unwrap(), 0, "it waits for no retry");
    end_waits(&pool).await.unwrap();
    let ending = test.engine.wait(started.saga_id, WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Completed);
    verified(&test.engine).await;
    test.close().await;
}

#[tokio::test]
async fn a_time_that_has_passed_is_no_wait() {
    const PAST: SagaName<DateTime<Utc>> = SagaName::new("past");
    let (_database, pool) = fixtures::database().await;
    let past = Saga::named(PAST).sleep_until("until", |at: &DateTime<Utc>, _| *at);
    let past = past.sleep("no-time", Duration::ZERO).build().unwrap();
    assert_eq!(past.graph().steps[0].reads, ["input"]);
    let test = TestEngine::build(Engine::builder(pool.clone()).register(past));
    for at in [DateTime::UNIX_EPOCH, DateTime::<Utc>::MIN_UTC] {
        let (started, ending) = test.engine.start_and_wait(PAST.with(&at), WAIT_TIMEOUT).await.unwrap();
        assert_eq!(ending.unwrap().status, Status::Completed);
        assert_eq!(history(&test.engine, started.saga_id).await.len(), 2);
        let rows: i64 = sqlx::query_scalar("select count(*) from engine.history_run where saga_id = $1")
            .bind(started.saga_id.0)
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(rows, 1, "in one commit");
    }
    let later = test.engine.start(PAST.with(&DateTime::<Utc>::MAX_UTC)).await.unwrap();
    waiting(&pool, later.saga_id).await;
    verified(&test.engine).await;
    test.close().await;
}

#[tokio::test]
async fn a_time_that_can_not_be_computed_fails_the_step() {
    let (_database, pool) = fixtures::database().await;
    let broken = Saga::named(SLEEPER)
        .then(Pack)
        .sleep_until("rest", |input: &TestInput, now| {
            assert!(input.at.is_some(), "no time");
            now
        })
        .build()
        .unwrap();
    let test = TestEngine::build(Engine::builder(pool.clone()).register(broken));
    let started = test.engine.start(SLEEPER.with(&TestInput::default())).await.unwrap();
    while test.engine.saga(started.saga_id).await.unwrap().unwrap().status == Status::Running {
        make_all_due(&pool).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let ending = test.engine.wait(started.saga_id, WAIT_TIMEOUT).await.unwrap().unwrap();
    let Some(Cause::Failed { step, failure }) = ending.cause else { panic!("{:?}", ending.cause) };
    assert_eq!((ending.status, step.as_str()), (Status::Compensated, "rest"));
    assert!(
        failure.message.ends_with("what computes the time of `rest` panicked: no time"),
        "{}",
        failure.message
    );
    assert_eq!(fixtures::effects(&pool, "pack").await, 0);
    verified(&test.engine).await;
    test.close().await;
}

#[tokio::test]
async fn a_deadline_ends_a_sleep_before_the_pivot_and_none_after_it() {
    const AFTER: SagaName<TestInput> = SagaName::new("after");
    let (_database, pool) = fixtures::database().await;
    let deadline = LONG * 2;
    let before = Saga::named(SLEEPER).deadline(deadline).then(Pack).sleep("rest", LONG).pivot(Seal);
    let after = Saga::named(AFTER).deadline(deadline).pivot(Seal).sleep("rest", LONG).then(File);
    let builder = Engine::builder(pool.clone());
    let test = TestEngine::build(builder.register(before.build().unwrap()).register(after.build().unwrap()));
    let [before, after] = [SLEEPER, AFTER].map(|name| name.with(&TestInput::default()));
    let before = test.engine.start(before).await.unwrap().saga_id;
    let after = test.engine.start(after).await.unwrap().saga_id;
    waiting(&pool, before).await;
    let until = waiting(&pool, after).await;
    sqlx::query("update engine.saga set deadline_at = now() - interval '1 ms'").execute(&pool).await.unwrap();
    sqlx::query("update engine.saga set due_at = now()").execute(&pool).await.unwrap();
    let ending = test.engine.wait(before, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!((ending.status, ending.cause), (Status::Compensated, Some(Cause::DeadlinePassed)));
    assert_eq!(waiting(&pool, after).await, until);
    verified(&test.engine).await;
    test.close().await;
}

#[tokio::test]
async fn a_saga_is_due_at_its_deadline_if_that_comes_before_the_end_of_its_wait() {
    let (_database, pool) = fixtures::database().await;
    let saga = Saga::named(SLEEPER).deadline(LONG).then(Pack);
    let saga = saga.sleep_until("rest", |_: &TestInput, now| now + LONG * 2).build().unwrap();
    let test = TestEngine::build(Engine::builder(pool.clone()).register(saga));
    let started = test.engine.start(SLEEPER.with(&TestInput::default())).await.unwrap();
    let until = waiting(&pool, started.saga_id).await;
    let saga = test.engine.saga(started.saga_id).await.unwrap().unwrap();
    assert_eq!(saga.due_at, saga.deadline_at);
    assert!(saga.due_at < Some(until));
    test.close().await;
}

#[tokio::test]
async fn an_operator_ends_a_wait_with_an_audit_record() {
    let (_database, pool) = fixtures::database().await;
    let test = TestEngine::build(Engine::builder(pool.clone()).register(sleeper(LONG)));
    let id = test.engine.start(SLEEPER.with(&TestInput::default())).await.unwrap().saga_id;
    let until = waiting(&pool, id).await;
    let skipped = test.engine.skip_wait(id, "ops", "it need not wait").await.unwrap();
    assert_eq!((skipped.step.as_str(), skipped.until), ("rest", Some(until)));
    assert_eq!(test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    let (actor, action, before): (String, String, serde_json::Value) =
        sqlx::query_as("select actor, action, before from engine.audit").fetch_one(&pool).await.unwrap();
    assert_eq!(
        (actor.as_str(), action.as_str(), &before["waits_for"]),
        ("ops", "skip-wait", &"sleep".into())
    );
    let again = test.engine.skip_wait(id, "ops", "again").await;
    assert!(matches!(again, Err(SkipWaitError::NotWaiting { step }) if step == "seal"));
    let unknown = test.engine.skip_wait(engine::SagaId::generate(), "ops", "again").await;
    assert!(matches!(unknown, Err(SkipWaitError::NotFound(_))));
    assert_eq!(done(&test.engine, id).await.len(), 3);
    test.close().await;
}
