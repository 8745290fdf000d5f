//! Snoozes cost no attempt, but they don't put a saga off for ever.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use engine::{
    Cause, Direction, Engine, Failure, HistoryOutcome, RetryPolicy, SagaId, Status,
    testing::{Fault, FaultPoint, Faults, with_faults},
};
use sqlx::PgPool;

use super::{
    fixtures::{self, PLAIN, QUICK, TestEngine, TestInput},
    step_failures::dead_job,
};
use crate::support::{Database, WAIT_TIMEOUT};

const LIMIT: Duration = Duration::from_millis(200);

/// Snoozes every saga at one step while it is switched on.
struct Snoozes {
    step: &'static str,
    on: AtomicBool,
}

impl Faults for Snoozes {
    fn at(&self, _: SagaId, point: &FaultPoint, _: u32) -> Option<Fault> {
        let snoozes = point.step == self.step
            && point.direction == Direction::Action
            && self.on.load(Ordering::Acquire);
        snoozes.then_some(Fault::Hold(Duration::from_millis(5)))
    }
}

/// An engine with a worker that snoozes at `step`, which may be put off for [`LIMIT`].
async fn snoozing_at(step: &'static str) -> (Database, PgPool, TestEngine, Arc<Snoozes>) {
    let (database, pool) = fixtures::database().await;
    let snoozes = Arc::new(Snoozes { step, on: AtomicBool::new(true) });
    let mut saga = fixtures::plain_saga();
    saga.set_policy(step, Direction::Action, RetryPolicy { max_postponed: LIMIT, ..QUICK }).unwrap();
    let builder = Engine::builder(pool.clone()).register(saga);
    let test = TestEngine::build(with_faults(builder, snoozes.clone()));
    (database, pool, test, snoozes)
}

#[tokio::test]
async fn a_step_that_is_only_put_off_fails_after_its_limit() {
    let (_database, pool, test, _) = snoozing_at("seal").await;
    let (started, ending) =
        test.engine.start_and_wait(PLAIN.with(&TestInput::default()), WAIT_TIMEOUT).await.unwrap();
    let ending = ending.expect("it ends");
    assert_eq!(ending.status, Status::Compensated);
    let Some(Cause::Failed { step, failure }) = ending.cause else { panic!("{:?}", ending.cause) };
    assert_eq!((step.as_str(), failure.code.as_str()), ("seal", Failure::POSTPONED_TOO_LONG));
    assert!(failure.message.ends_with("the last: held by a test"), "{}", failure.message);
    let history = test.engine.history(started.saga_id).await.unwrap().unwrap();
    let at_seal: Vec<_> = history.iter().filter(|entry| entry.step == "seal").collect();
    let (last, snoozed) = at_seal.split_last().unwrap();
    assert_eq!((last.outcome, last.attempt), (HistoryOutcome::Exhausted, 1));
    assert!(snoozed.len() > 3 && snoozed.iter().all(|entry| entry.outcome == HistoryOutcome::Snoozed));
    assert_eq!(fixtures::effects(&pool, "pack").await, 0, "it is undone");
    assert!(test.engine.verify_histories(9).await.unwrap().is_empty(), "it leads to the stored state");
    test.close().await;
}

#[tokio::test]
async fn past_the_pivot_it_becomes_a_dead_job_whose_retry_begins_anew() {
    let (_database, pool, test, snoozes) = snoozing_at("file").await;
    let (started, ending) =
        test.engine.start_and_wait(PLAIN.with(&TestInput::default()), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.expect("it dies").status, Status::Dead);
    let job = dead_job(&test.engine, started.saga_id).await;
    assert!(job.error.contains("in which it was only put off; the last: held by a test"), "{}", job.error);
    let since: Option<chrono::DateTime<chrono::Utc>> =
        sqlx::query_scalar("select postponed_since from engine.saga").fetch_one(&pool).await.unwrap();
    assert_eq!(since, None);
    snoozes.on.store(false, Ordering::Release);
    test.engine.retry_dead_job(job.dead_job_id, "ops", "it may go on").await.unwrap();
    let ending = test.engine.wait(started.saga_id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(ending.status, Status::Completed);
    test.close().await;
}
