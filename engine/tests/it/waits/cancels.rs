//! A cancel beats a signal, unless the signal is the pivot.

use engine::{CancelOutcome, Cause, Definition, Engine, Saga, SagaName, Status};

use super::{
    super::fixtures::{self, Pack, TestEngine, TestInput},
    APPROVAL, APPROVED, Approval, Decide, LONG, approved, said, verified, waiting,
};
use crate::support::WAIT_TIMEOUT;

const PIVOT: SagaName<TestInput> = SagaName::new("pivot-signal");

fn at_pivot() -> Definition {
    let saga = Saga::named(PIVOT).then(Pack).pivot_signal("await-approval", APPROVAL.within(LONG));
    saga.then(Decide).build().unwrap()
}

#[tokio::test]
async fn a_waiting_saga_is_cancelled_at_once() {
    let (_database, pool) = fixtures::database().await;
    let test = TestEngine::build(Engine::builder(pool.clone()).register(approved()).register(at_pivot()));
    for name in [APPROVED, PIVOT] {
        let id = test.engine.start(name.with(&TestInput::default())).await.unwrap().saga_id;
        waiting(&pool, id).await;
        let outcome = test.engine.cancel(id, "ada", "changed my mind").await.unwrap();
        assert_eq!(outcome, CancelOutcome::Compensating);
        let ending = test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap();
        assert!(matches!(ending.cause, Some(Cause::Cancelled { .. })));
        assert_eq!(ending.status, Status::Compensated);
    }
    assert_eq!(fixtures::effects(&pool, "pack").await, 0);
    let waits: i64 = sqlx::query_scalar(
        "select count(*) from engine.saga where coalesce(wait_until, waits_since) is not null or signal_name is not null",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(waits, 0, "nothing of the wait is left");
    verified(&test.engine).await;
    test.close().await;
}

/// A saga that waits, with a signal and a cancel for it that nobody has read.
async fn signalled_and_cancelled(
    pool: &sqlx::PgPool,
    name: SagaName<TestInput>,
) -> (Engine, engine::SagaId, CancelOutcome) {
    let build = || Engine::builder(pool.clone()).register(approved()).register(at_pivot()).build().unwrap();
    let first = TestEngine::start(build());
    let id = first.engine.start(name.with(&TestInput::default())).await.unwrap().saga_id;
    waiting(pool, id).await;
    first.close().await;
    let idle = build();
    idle.signal(id, APPROVAL.with(&Approval::by("ada"))).await.unwrap();
    let outcome = idle.cancel(id, "bob", "changed my mind").await.unwrap();
    (idle, id, outcome)
}

#[tokio::test]
async fn a_cancel_goes_before_a_signal() {
    let (_database, pool) = fixtures::database().await;
    let (engine, id, outcome) = signalled_and_cancelled(&pool, APPROVED).await;
    assert_eq!(outcome, CancelOutcome::Compensating);
    let test = TestEngine::start(engine);
    assert_eq!(test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Compensated);
    let state: String = sqlx::query_scalar("select state from engine.inbox").fetch_one(&pool).await.unwrap();
    assert_eq!(state, "too_late");
    verified(&test.engine).await;
    test.close().await;
}

#[tokio::test]
async fn a_signal_that_is_the_pivot_goes_before_a_cancel() {
    let (_database, pool) = fixtures::database().await;
    let (engine, id, outcome) = signalled_and_cancelled(&pool, PIVOT).await;
    assert_eq!(outcome, CancelOutcome::Requested);
    let test = TestEngine::start(engine);
    assert_eq!(test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    assert_eq!(said(&test.engine, id).await, "ada");
    let saga = test.engine.saga(id).await.unwrap().unwrap();
    assert!(!saga.cancel_requested && saga.cause.is_none());
    assert_eq!(fixtures::effects(&pool, "pack").await, 1);
    verified(&test.engine).await;
    test.close().await;
}

#[tokio::test]
async fn a_pivot_signal_goes_before_a_deadline_that_has_passed() {
    let (_database, pool) = fixtures::database().await;
    let build = || Engine::builder(pool.clone()).register(at_pivot()).build().unwrap();
    let first = TestEngine::start(build());
    let [signalled, other] = ["one", "two"].map(|_| PIVOT.with(&TestInput::default()));
    let signalled = first.engine.start(signalled).await.unwrap().saga_id;
    let other = first.engine.start(other).await.unwrap().saga_id;
    waiting(&pool, signalled).await;
    waiting(&pool, other).await;
    first.close().await;
    let sql = "update engine.saga set deadline_at = now() - interval '1 s', due_at = now()";
    sqlx::query(sql).execute(&pool).await.unwrap();
    let idle = build();
    idle.signal(signalled, APPROVAL.with(&Approval::by("ada"))).await.unwrap();
    let test = TestEngine::start(idle);
    assert_eq!(test.engine.wait(signalled, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    let ending = test.engine.wait(other, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!((ending.status, ending.cause), (Status::Compensated, Some(Cause::DeadlinePassed)));
    test.close().await;
}

#[tokio::test]
async fn at_a_pivot_signal_that_has_not_come_a_cancel_goes_before_a_time_that_is_over() {
    let (_database, pool) = fixtures::database().await;
    let build = || Engine::builder(pool.clone()).register(at_pivot()).build().unwrap();
    let first = TestEngine::start(build());
    let [late, cancelled] = ["one", "two"].map(|_| PIVOT.with(&TestInput::default()));
    let late = first.engine.start(late).await.unwrap().saga_id;
    let cancelled = first.engine.start(cancelled).await.unwrap().saga_id;
    waiting(&pool, late).await;
    waiting(&pool, cancelled).await;
    first.close().await;
    // Nobody was there while the time ended, the deadline passed, and the cancel was noted.
    let sql =
        "update engine.saga set deadline_at = now() - interval '1 s', due_at = now(), wait_until = now()";
    sqlx::query(sql).execute(&pool).await.unwrap();
    let noted = "insert into engine.inbox (saga_id, kind, name, key, payload) \
                 values ($1, 'cancel', '', '', '{\"actor\": \"bob\", \"reason\": \"no\", \"at\": \"2026-01-01T00:00:00Z\"}')";
    sqlx::query("update engine.saga set deadline_at = null where id = $1")
        .bind(cancelled.0)
        .execute(&pool)
        .await
        .unwrap();
    sqlx::query(noted).bind(cancelled.0).execute(&pool).await.unwrap();
    let test = TestEngine::start(build());
    let ending = test.engine.wait(late, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!((ending.status, ending.cause), (Status::Compensated, Some(Cause::DeadlinePassed)));
    let ending = test.engine.wait(cancelled, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert!(matches!(ending.cause, Some(Cause::Cancelled { .. })), "{ending:?}");
    verified(&test.engine).await;
    test.close().await;
}
