//! Faults that make sagas die at their pivot or in an undo, and so become dead jobs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use engine::{
    Cause, DeadJob, DeadJobFilter, Direction, Engine, EngineBuilder, Page, SagaId, Status,
    testing::{Fault, FaultPoint, Faults, with_faults},
};
use sqlx::PgPool;

use super::fixtures::{self, PLAIN, StepFault, TestEngine, TestInput};
use crate::support::{Database, WAIT_TIMEOUT};

pub(super) const ALL: Page = Page { after: None, limit: 100 };

/// Snoozes sagas at the pivot, and makes the undo of `pack` fail, until these are switched off.
pub(super) struct StepFailures {
    pub(super) at_pivot: AtomicBool,
    pub(super) in_undo: AtomicBool,
}

impl StepFailures {
    /// Both failures.
    pub(super) fn all() -> Arc<Self> {
        Arc::new(Self { at_pivot: AtomicBool::new(true), in_undo: AtomicBool::new(true) })
    }

    pub(super) fn only_at_pivot() -> Arc<Self> {
        let failures = Self::all();
        failures.in_undo.store(false, Ordering::Release);
        failures
    }
}

impl Faults for StepFailures {
    fn at(&self, _: SagaId, point: &FaultPoint, _: u32) -> Option<Fault> {
        let (pivot, undo) = (&self.at_pivot, &self.in_undo);
        match (point.step.as_str(), point.direction) {
            ("seal", Direction::Action) if pivot.load(Ordering::Acquire) => {
                Some(Fault::Hold(Duration::from_hours(1)))
            }
            ("pack", Direction::Undo) if undo.load(Ordering::Acquire) => {
                Some(Fault::Retry("the undo fails".into()))
            }
            _ => None,
        }
    }
}

/// An engine with these failures and a worker.
pub(super) async fn open(
    failures: Arc<StepFailures>,
    more: impl FnOnce(EngineBuilder) -> EngineBuilder,
) -> (Database, PgPool, TestEngine) {
    let (database, pool) = fixtures::database().await;
    let builder = Engine::builder(pool.clone()).register(fixtures::plain_saga());
    let test = TestEngine::build(with_faults(more(builder), failures));
    (database, pool, test)
}

/// Starts a saga and dead-letters it at its pivot, after its first step.
pub(super) async fn dead_letter_at_pivot(test: &TestEngine) -> (SagaId, DeadJob) {
    let started = test.engine.start(PLAIN.with(&TestInput::default())).await.unwrap();
    dead_letter_existing(test, started.saga_id).await
}

pub(super) async fn dead_letter_existing(test: &TestEngine, saga_id: SagaId) -> (SagaId, DeadJob) {
    let engine = &test.engine;
    let held = async {
        loop {
            let saga = engine.saga(saga_id).await.unwrap().unwrap();
            if saga.step == "seal" && saga.lease_owner.is_none() && saga.error.is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WAIT_TIMEOUT, held).await.expect("it is held at its pivot");
    // As if five processes in a row had vanished during this step.
    sqlx::query("update engine.saga set lost_attempts = 5, due_at = now() where id = $1")
        .bind(saga_id.0)
        .execute(engine.pool())
        .await
        .unwrap();
    assert_eq!(engine.wait(saga_id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Dead);
    (saga_id, dead_job(engine, saga_id).await)
}

/// Starts a saga that fails at its pivot and whose undo fails, too.
pub(super) async fn fail_in_undo(test: &TestEngine) -> (SagaId, DeadJob) {
    let saga = PLAIN.with(&TestInput::with("seal", StepFault::Fails));
    let (started, ending) = test.engine.start_and_wait(saga, WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Dead);
    (started.saga_id, dead_job(&test.engine, started.saga_id).await)
}

pub(super) async fn dead_job(engine: &Engine, saga_id: SagaId) -> DeadJob {
    let jobs = engine.dead_jobs(&DeadJobFilter::default(), ALL).await.unwrap().items;
    jobs.into_iter().find(|job| job.saga_id == saga_id).expect("it has an open dead job")
}

/// Why the saga compensates; `None` if it does not.
pub(super) async fn cause(engine: &Engine, saga_id: SagaId) -> Option<Cause> {
    engine.saga(saga_id).await.unwrap().unwrap().cause
}

/// Executes a statement, for a test that changes the database itself.
pub(super) async fn sql(pool: &PgPool, statement: &'static str) {
    sqlx::raw_sql(statement).execute(pool).await.unwrap();
}
