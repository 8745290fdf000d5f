//! What a process decides about runs whose code it lacks, and what it leaves to others.

use engine::{
    CancelOutcome, DeadJobAction, DeadJobEffect, DeadJobFilter, DeadJobOutcome, Engine, Saga, Status,
    StatusChange, StatusObserver, StepError, Tx,
};

use super::{ALL, Flight, TRIP, Version, effects_of, is_set_aside, quick};
use crate::{
    it::fixtures::{self, ExternalWorld, Seal, TestEngine, TestInput, record_effect},
    support::WAIT_TIMEOUT,
};

#[tokio::test]
async fn a_dead_run_is_acted_on_by_a_process_that_has_its_code_for_one_that_lacks_it() {
    let (_database, pool) = fixtures::database().await;
    let world = ExternalWorld::default();
    let first = TestEngine::build(quick(&pool).register(Version::First.definition(&world)));
    let dies = || TRIP.with(&TestInput::with("file", fixtures::StepFault::SqlError));
    let mut dead = Vec::new();
    for _ in 0..2 {
        let (started, ending) = first.engine.start_and_wait(dies(), WAIT_TIMEOUT).await.unwrap();
        assert_eq!(ending.unwrap().status, Status::Dead);
        dead.push(started.saga_id);
    }
    first.close().await;
    let jobs = async |engine: &Engine| engine.dead_jobs(&DeadJobFilter::default(), ALL).await.unwrap().items;

    let other = TestEngine::build(quick(&pool).register(Version::Removed.definition(&world)));
    let job = jobs(&other.engine).await.remove(0);
    let plan =
        other.engine.plan_dead_jobs(&DeadJobFilter::default(), DeadJobAction::Retry, 10).await.unwrap();
    assert!(plan.jobs.iter().all(|job| job.effect == Ok(DeadJobEffect::Requested)), "{plan:?}");
    sqlx::query("update engine.dead_job set expires_at = now()").execute(&pool).await.unwrap();
    assert_eq!(other.engine.expire_dead_jobs(10).await.unwrap(), 0, "no clock gives it up either");
    let retried = other.engine.retry_dead_job(job.dead_job_id, "ada", "again").await.unwrap();
    assert!(matches!(retried, DeadJobOutcome::Requested(_)), "{retried:?}");
    other.close().await;

    let both =
        quick(&pool).register(Version::Removed.definition(&world)).also(Version::First.definition(&world));
    let both = TestEngine::build(both);
    let dead = format!("select resolution = 'retried' from engine.dead_job where id = '{}'", job.dead_job_id);
    fixtures::holds(&pool, &dead).await;
    assert_eq!(both.engine.wait(job.saga_id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Dead);
    assert_eq!(both.engine.verify_histories(100).await.unwrap(), []);
    both.close().await;
}

/// Records in the table of effects that it was told.
struct Told;

impl StatusObserver for Told {
    async fn status_changed(&self, tx: &mut Tx<'_>, changes: &[StatusChange]) -> Result<(), StepError> {
        record_effect(tx, changes.iter().map(|change| change.saga_id.0).collect(), "told", 1).await?;
        Ok(())
    }
}

#[tokio::test]
async fn a_cancel_that_ends_a_run_at_once_is_noted_for_a_process_that_can_tell_its_observer() {
    let (_database, pool) = fixtures::database().await;
    let observed = || Saga::named(TRIP).then(Flight).pivot(Seal).observed_by(Told).build().unwrap();
    let caller = quick(&pool).register(observed()).build().unwrap();
    let saga_id = caller.start(TRIP.with(&TestInput::default())).await.unwrap().saga_id;
    caller.shutdown().await;
    let world = ExternalWorld::default();
    let other = TestEngine::build(quick(&pool).register(Version::First.definition(&world)));
    is_set_aside(&pool, saga_id).await;
    let outcome = other.engine.cancel(saga_id, "ada", "not needed").await.unwrap();
    assert_eq!(outcome, CancelOutcome::Requested);
    let again = other.engine.cancel(saga_id, "ada", "not needed").await.unwrap();
    assert_eq!(again, CancelOutcome::Requested);
    let saga = other.engine.saga(saga_id).await.unwrap().unwrap();
    assert_eq!((saga.status, saga.cancel_requested), (Status::Running, true));
    other.close().await;

    let right = TestEngine::build(quick(&pool).register(observed()));
    assert_eq!(right.engine.wait(saga_id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Compensated);
    assert_eq!(effects_of(&pool, saga_id).await, [("told".to_owned(), 1, 1)], "no step was run");
    assert_eq!(right.engine.verify_histories(100).await.unwrap(), []);
    right.close().await;
}
