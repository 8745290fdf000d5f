//! Dead jobs: they list every error, and are retried at the same step, discarded and audited.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use engine::{
    BulkLimits, CancelError, DeadJobError, DeadJobFilter, DeadJobResolution, DiscardMode, Engine, NewSaga,
    Page, SagaId, Status,
    testing::{Fault, FaultPoint, Faults, with_faults},
};

use crate::support::{Database, WAIT_TIMEOUT};

use super::fixtures::{self, ExternalWorld, FULL, PLAIN, TestEngine, TestInput};

const ALL: Page = Page { after: None, limit: 100 };

fn at_most(limit: u32) -> BulkLimits {
    BulkLimits { max_jobs: limit, time_limit: WAIT_TIMEOUT }
}

/// Makes `file`, a step after the pivot, fail until it is switched off.
struct Broken(AtomicBool);

impl Faults for Broken {
    fn at(&self, _: SagaId, point: &FaultPoint, attempt: u32) -> Option<Fault> {
        let broken = point.step == "file" && self.0.load(Ordering::Acquire);
        broken.then(|| Fault::Retry(format!("the archive does not answer, {attempt}")))
    }
}

async fn with_dead_jobs(count: usize) -> (Database, TestEngine, Arc<Broken>, Vec<SagaId>) {
    let (database, pool) = fixtures::database().await;
    let broken = Arc::new(Broken(AtomicBool::new(true)));
    let test = TestEngine::build(with_faults(
        Engine::builder(pool).register(fixtures::plain_saga()),
        broken.clone(),
    ));
    let mut sagas = Vec::new();
    for _ in 0..count {
        let run = test.engine.start_and_wait(PLAIN.with(&TestInput::default()), WAIT_TIMEOUT).await.unwrap();
        assert_eq!(run.1.unwrap().status, Status::Dead);
        sagas.push(run.0.saga_id);
    }
    (database, test, broken, sagas)
}

#[tokio::test]
async fn a_dead_job_lists_every_error_and_continues_at_the_step_where_it_died() {
    let (_database, test, broken, sagas) = with_dead_jobs(1).await;
    let engine = &test.engine;
    let jobs = engine.dead_jobs(&DeadJobFilter::default(), ALL).await.unwrap().items;
    let job = &jobs[0];
    assert_eq!((job.saga_id, job.step.as_str(), job.attempts), (sagas[0], "file", 3));
    let errors: Vec<_> = job.errors.iter().map(|error| error.error[0].as_str()).collect();
    assert_eq!(
        errors,
        [
            "the archive does not answer, 1",
            "the archive does not answer, 2",
            "the archive does not answer, 3"
        ]
    );

    broken.0.store(false, Ordering::Release);
    engine.retry_dead_job(job.dead_job_id, "ada", "the archive is back").await.unwrap();
    let ending = engine.wait(sagas[0], WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(ending.status, Status::Completed);
    assert_eq!(fixtures::effects(engine.pool(), "pack").await, 1, "what was done is not done again");
    let again = engine.retry_dead_job(job.dead_job_id, "ada", "once more").await;
    assert!(matches!(again, Err(DeadJobError::AlreadyResolved(done)) if done == "retried"));
    let audit: Vec<(String, String, String)> =
        sqlx::query_as("select actor, action, reason from engine.audit")
            .fetch_all(engine.pool())
            .await
            .unwrap();
    assert_eq!(audit, [("ada".into(), "retry".into(), "the archive is back".into())]);
    assert_eq!(engine.verify_histories(10).await.unwrap(), []);
    test.close().await;
}

#[tokio::test]
async fn a_saga_that_dies_again_gets_a_new_dead_job_and_fresh_attempts() {
    let (_database, test, _broken, sagas) = with_dead_jobs(1).await;
    let engine = &test.engine;
    let first = engine.dead_jobs(&DeadJobFilter::default(), ALL).await.unwrap().items.remove(0);
    engine.retry_dead_job(first.dead_job_id, "ada", "perhaps").await.unwrap();
    let ending = engine.wait(sagas[0], WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(ending.status, Status::Dead);
    let second = engine.dead_jobs(&DeadJobFilter::default(), ALL).await.unwrap().items.remove(0);
    assert_ne!(first.dead_job_id, second.dead_job_id);
    assert_eq!(second.errors.len(), 6, "three attempts each time");
    test.close().await;
}

#[tokio::test]
async fn a_discarded_dead_job_ends_its_saga_as_dead() {
    let (_database, test, _broken, sagas) = with_dead_jobs(1).await;
    let engine = &test.engine;
    let job = engine.dead_jobs(&DeadJobFilter::default(), ALL).await.unwrap().items.remove(0);
    engine.discard_dead_job(job.dead_job_id, DiscardMode::Safe, "bob", "written off").await.unwrap();
    let saga = engine.saga(sagas[0]).await.unwrap().unwrap();
    assert_eq!(saga.status, Status::Dead);
    assert!(saga.ended_at.is_some());
    assert_eq!(engine.count_dead_jobs(&DeadJobFilter::default()).await.unwrap(), 0);
    let resolved = engine.dead_job(job.dead_job_id).await.unwrap().unwrap();
    assert_eq!(resolved.resolution.map(DeadJobResolution::name), Some("discarded"));
    assert_eq!(resolved.resolved_by.as_deref(), Some("bob"));
    assert_eq!(engine.verify_histories(10).await.unwrap(), []);
    test.close().await;
}

#[tokio::test]
async fn many_dead_jobs_are_retried_by_filter() {
    let (_database, test, broken, sagas) = with_dead_jobs(5).await;
    let engine = &test.engine;
    let other = DeadJobFilter { error_contains: Some("no such error".into()), ..DeadJobFilter::default() };
    assert!(engine.retry_dead_jobs(&other, at_most(100), "ada", "none").await.unwrap().done.is_empty());
    broken.0.store(false, Ordering::Release);
    let failing =
        DeadJobFilter { error_contains: Some("ARCHIVE does not".into()), ..DeadJobFilter::default() };
    assert_eq!(
        engine.retry_dead_jobs(&failing, at_most(3), "ada", "the archive is back").await.unwrap().done.len(),
        3
    );
    assert_eq!(
        engine
            .retry_dead_jobs(&failing, at_most(100), "ada", "the archive is back")
            .await
            .unwrap()
            .done
            .len(),
        2
    );
    for saga in sagas {
        assert_eq!(engine.wait(saga, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    }
    test.close().await;
}

#[tokio::test]
async fn a_cancel_past_the_pivot_is_refused_with_the_pivots_name() {
    let (_database, test, _broken, sagas) = with_dead_jobs(1).await;
    let refused = test.engine.cancel(sagas[0], "ada", "too late").await;
    assert!(matches!(&refused, Err(CancelError::PastPivot { pivot }) if pivot == "seal"), "{refused:?}");
    test.close().await;
}

/// Changes a saga before its first step runs, and returns why it dies.
async fn why_it_dies(saga: NewSaga, change: &'static str) -> String {
    let (_database, pool) = fixtures::database().await;
    let builder = Engine::builder(pool.clone()).register(fixtures::plain_saga());
    let engine = builder.register(fixtures::full_saga(&ExternalWorld::default())).build().unwrap();
    let started = engine.start(saga).await.unwrap();
    sqlx::query(change).execute(&pool).await.unwrap();
    let test = TestEngine::start(engine);
    let ending = test.engine.wait(started.saga_id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(ending.status, Status::Dead);
    let job = test.engine.dead_jobs(&DeadJobFilter::default(), ALL).await.unwrap().items.remove(0);
    test.close().await;
    job.error
}

#[tokio::test]
async fn a_saga_whose_stored_data_can_not_be_read_is_dead_lettered_with_the_reason() {
    let plain = || PLAIN.with(&TestInput::default());
    let error = why_it_dies(plain(), "update engine.saga set input = '{\"at\": 7}'").await;
    assert!(error.starts_with("`pack` reads the saga's input, which can't be read: "), "{error}");

    let send = why_it_dies(FULL.with(&TestInput::default()), "update engine.saga set step = 'send'");
    assert_eq!(send.await, "`send` reads the output of `pack`, which this saga never ran");

    let undo = "update engine.saga set status = 'compensating', direction = 'undo', \
                cause = '{\"kind\": \"deadline_passed\"}'";
    assert_eq!(why_it_dies(plain(), undo).await, "the output of `pack` is missing");
}
