//! Cancels that are noted while another transaction, or a worker, holds their saga.

use std::{sync::Arc, time::Duration};

use engine::{
    Batch, CallError, CallStep, CancelOutcome, Engine, ForwardOnly, Item, LateCancel, Outcome, Outcomes,
    RetryPolicy, Saga, SagaId, SagaName, Status, StatusChange, StatusObserver, StepError, TransactionStep,
    Tx,
};
use sqlx::{PgPool, Postgres, Transaction};
use tokio::sync::Semaphore;

use super::fixtures::{self, PLAIN, Pack, QUICK, Seal, TestEngine, TestInput, holds, plain_saga};
use crate::support::WAIT_TIMEOUT;

const OBSERVED: SagaName<TestInput> = SagaName::new("observed-saga");

/// Records the late cancels that it is told of. It fails for those by `grumpy`.
struct RecordsLateCancels;

impl StatusObserver for RecordsLateCancels {
    async fn status_changed(&self, _: &mut Tx<'_>, _: &[StatusChange]) -> Result<(), StepError> {
        Ok(())
    }

    async fn cancelled_too_late(&self, tx: &mut Tx<'_>, late: &[LateCancel]) -> Result<(), StepError> {
        for cancel in late {
            if cancel.actor == "grumpy" {
                return Err(StepError::Other("no".into()));
            }
            sqlx::query("insert into effect (saga_id, step, change) values ($1, $2, 1)")
                .bind(cancel.saga_id.0)
                .bind(format!("late in {} by {}: {}", cancel.status, cancel.actor, cancel.reason))
                .execute(&mut **tx)
                .await?;
        }
        Ok(())
    }
}

/// A step that says that it runs, and ends when it may.
#[derive(Clone)]
struct Gate {
    runs: Arc<Semaphore>,
    may_end: Arc<Semaphore>,
}

impl Gate {
    fn new() -> Self {
        Self { runs: Arc::new(Semaphore::new(0)), may_end: Arc::new(Semaphore::new(0)) }
    }

    async fn pass(&self) {
        self.runs.add_permits(1);
        self.may_end.acquire().await.expect("the gate is not closed").forget();
    }

    async fn reached(&self) {
        let reached = tokio::time::timeout(WAIT_TIMEOUT, self.runs.acquire()).await;
        reached.expect("the step runs").expect("the gate is not closed").forget();
    }

    fn open(&self) {
        self.may_end.add_permits(1);
    }
}

/// Holds up the transaction of its batch.
struct HeldPivot(Gate);

impl TransactionStep for HeldPivot {
    const NAME: &'static str = "held-pivot";
    type Input = TestInput;
    type Output = ();
    type Undo = ForwardOnly;

    async fn run(&self, _: &mut Tx<'_>, batch: &Batch<TestInput>) -> Result<Outcomes<()>, StepError> {
        self.0.pass().await;
        Ok(batch.decide(|_| Outcome::Done(())))
    }
}

/// A call that takes its time.
struct SlowCall(Gate);

impl CallStep for SlowCall {
    const NAME: &'static str = "slow-call";
    const RETRY: RetryPolicy = QUICK;
    type Input = TestInput;
    type Output = ();
    type Undo = ForwardOnly;

    async fn call(&self, _: &Item<TestInput>) -> Result<Outcome<()>, CallError> {
        self.0.pass().await;
        Ok(Outcome::Done(()))
    }
}

/// An engine whose leases outlast the waits of the tests.
fn observed_engine(pool: &PgPool, gate: &Gate) -> TestEngine {
    let saga = Saga::named(OBSERVED).then(Pack).pivot(HeldPivot(gate.clone()));
    let saga = saga.observed_by(RecordsLateCancels).build().unwrap();
    let builder = Engine::builder(pool.clone()).register(saga).register(plain_saga());
    TestEngine::build(builder.lease(WAIT_TIMEOUT * 4))
}

async fn lock_saga(pool: &PgPool, saga_id: SagaId) -> Transaction<'static, Postgres> {
    let mut transaction = pool.begin().await.unwrap();
    sqlx::query("select from engine.saga where id = $1 for update")
        .bind(saga_id.0)
        .execute(&mut *transaction)
        .await
        .unwrap();
    transaction
}

/// Stores a cancel in the inbox, as a process does whose cancel found the saga locked.
async fn store_message(pool: &PgPool, saga_id: SagaId) {
    sqlx::query(
        "insert into engine.inbox (saga_id, kind, name, key, payload) \
         values ($1, 'cancel', '', '', '{\"actor\": \"ada\", \"reason\": \"stop it\"}')",
    )
    .bind(saga_id.0)
    .execute(pool)
    .await
    .unwrap();
}

async fn message_states(pool: &PgPool) -> Vec<String> {
    sqlx::query_scalar("select state from engine.inbox order by id").fetch_all(pool).await.unwrap()
}

async fn status(engine: &Engine, saga_id: SagaId) -> Status {
    engine.wait(saga_id, WAIT_TIMEOUT).await.unwrap().expect("it ends").status
}

#[tokio::test]
async fn a_cancel_of_a_locked_saga_is_noted_at_once_and_followed_when_the_lock_is_gone() {
    let (_database, pool) = fixtures::database().await;
    // Nobody works on the queue.
    let engine = Engine::builder(pool.clone()).register(plain_saga()).build().unwrap();
    let saga_id = engine.start(PLAIN.with(&TestInput::default())).await.unwrap().saga_id;
    let lock = lock_saga(&pool, saga_id).await;

    for _ in 0..2 {
        let noted = engine.cancel(saga_id, "ada", "stop it");
        let noted = tokio::time::timeout(WAIT_TIMEOUT, noted).await.expect("it waits for no lock");
        assert_eq!(noted.unwrap(), CancelOutcome::Requested);
    }
    assert_eq!(message_states(&pool).await, ["unread"], "the second adds nothing");
    let view = engine.saga(saga_id).await.unwrap().unwrap();
    assert_eq!((view.status, view.cancel_requested), (Status::Running, true));
    assert!(engine.oldest_noted_cancel().await.unwrap() > Duration::ZERO);
    let audited = "select count(*) = 2 from engine.audit where (after->>'cancel_requested')::bool";
    holds(&pool, audited).await;

    lock.rollback().await.unwrap();
    assert_eq!(status(&engine, saga_id).await, Status::Compensated);
    assert_eq!(message_states(&pool).await, ["consumed"]);
    let view = engine.saga(saga_id).await.unwrap().unwrap();
    assert_eq!((view.cancel_requested, view.error.as_deref()), (false, Some("cancelled by ada: stop it")));
    assert_eq!(engine.oldest_noted_cancel().await.unwrap(), Duration::ZERO);
    assert_eq!(
        engine.cancel(saga_id, "ada", "again").await.unwrap_err().to_string(),
        "the saga has already ended: compensated"
    );
    engine.shutdown().await;
}

#[tokio::test]
async fn a_batch_reads_the_messages_of_its_sagas_before_it_runs_their_steps() {
    let (_database, pool) = fixtures::database().await;
    let engine = Engine::builder(pool.clone()).register(plain_saga()).build().unwrap();
    let mut feed = engine.feed("default", 2);
    let cancelled = engine.start(PLAIN.with(&TestInput::default())).await.unwrap().saga_id;
    let other = engine.start(PLAIN.with(&TestInput::default())).await.unwrap().saga_id;
    let mut jobs = Vec::new();
    for _ in 0..2 {
        jobs.push(tokio::time::timeout(WAIT_TIMEOUT, feed.recv()).await.unwrap().unwrap());
    }
    store_message(&pool, cancelled).await;
    for job in jobs {
        let performed = engine.perform(&job).await;
        engine.commit(job, performed).await;
    }
    assert_eq!(status(&engine, cancelled).await, Status::Compensated);
    assert_eq!(status(&engine, other).await, Status::Completed);
    assert_eq!(message_states(&pool).await, ["consumed"]);
    assert_eq!(fixtures::effects(&pool, "pack").await, 1, "only the other saga packed");
    feed.close();
    engine.shutdown().await;
}

#[tokio::test]
async fn the_observer_is_told_of_a_cancel_that_was_noted_while_the_saga_passed_its_pivot() {
    let (_database, pool) = fixtures::database().await;
    let gate = Gate::new();
    let test = observed_engine(&pool, &gate);
    let saga_id = test.engine.start(OBSERVED.with(&TestInput::default())).await.unwrap().saga_id;
    gate.reached().await;
    // The batch holds the saga's row, and has read its messages.
    let noted = test.engine.cancel(saga_id, "ada", "stop it").await.unwrap();
    assert_eq!(noted, CancelOutcome::Requested);
    gate.open();
    assert_eq!(status(&test.engine, saga_id).await, Status::Completed);
    holds(&pool, "select bool_and(state = 'too_late') from engine.inbox").await;
    assert_eq!(fixtures::effects(&pool, "late in completed by ada: stop it").await, 1);
    assert!(!test.engine.saga(saga_id).await.unwrap().unwrap().cancel_requested);
    test.close().await;
}

#[tokio::test]
async fn a_cancel_that_is_to_be_dropped_if_it_is_late_is_not_told() {
    let (_database, pool) = fixtures::database().await;
    let gate = Gate::new();
    let test = observed_engine(&pool, &gate);
    let saga_id = test.engine.start(OBSERVED.with(&TestInput::default())).await.unwrap().saga_id;
    gate.reached().await;
    let noted = test.engine.cancel_or_drop(saga_id, "ada", "stop it").await.unwrap();
    assert_eq!(noted, CancelOutcome::Requested);
    gate.open();
    assert_eq!(status(&test.engine, saga_id).await, Status::Completed);
    holds(&pool, "select bool_and(state = 'too_late') from engine.inbox").await;
    let told: i64 = sqlx::query_scalar("select count(*) from effect where step like 'late%'")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(told, 0);
    test.close().await;
}

#[tokio::test]
async fn the_commit_of_a_pivot_that_is_a_call_tells_of_the_cancel_that_came_during_the_call() {
    let (_database, pool) = fixtures::database().await;
    let gate = Gate::new();
    let saga = Saga::named(OBSERVED).then(Pack).pivot_call(SlowCall(gate.clone()));
    let saga = saga.observed_by(RecordsLateCancels).build().unwrap();
    let test = TestEngine::build(Engine::builder(pool.clone()).register(saga).lease(WAIT_TIMEOUT * 4));
    let saga_id = test.engine.start(OBSERVED.with(&TestInput::default())).await.unwrap().saga_id;
    gate.reached().await;
    let noted = test.engine.cancel(saga_id, "ada", "stop it").await.unwrap();
    assert_eq!(noted, CancelOutcome::Requested, "it is stored with the saga, whose row is free");
    let second = test.engine.cancel_or_drop(saga_id, "bob", "if you can").await.unwrap();
    assert_eq!(second, CancelOutcome::Requested, "and this one does not replace it");
    gate.open();
    assert_eq!(status(&test.engine, saga_id).await, Status::Completed);
    assert_eq!(fixtures::effects(&pool, "late in completed by ada: stop it").await, 1, "in the same commit");
    test.close().await;
}

#[tokio::test]
async fn a_late_cancel_whose_observer_fails_stays_noted_and_keeps_no_other_from_being_told() {
    let (_database, pool) = fixtures::database().await;
    let gate = Gate::new();
    let test = observed_engine(&pool, &gate);
    let mut ids = Vec::new();
    for actor in ["grumpy", "ada"] {
        let saga_id = test.engine.start(OBSERVED.with(&TestInput::default())).await.unwrap().saga_id;
        gate.reached().await;
        let noted = test.engine.cancel(saga_id, actor, "stop it").await.unwrap();
        assert_eq!(noted, CancelOutcome::Requested);
        gate.open();
        assert_eq!(status(&test.engine, saga_id).await, Status::Completed);
        ids.push(saga_id);
    }
    holds(&pool, "select state = 'too_late' from engine.inbox where sender = 'ada'").await;
    assert_eq!(fixtures::effects(&pool, "late in completed by ada: stop it").await, 1);
    assert_eq!(message_states(&pool).await, ["unread", "too_late"]);
    assert!(test.engine.saga(ids[0]).await.unwrap().unwrap().cancel_requested);
    test.close().await;
}

#[tokio::test]
async fn a_message_to_a_saga_that_this_process_does_not_know_is_left_to_one_that_does() {
    let (_database, pool) = fixtures::database().await;
    let knowing = Engine::builder(pool.clone()).register(plain_saga()).build().unwrap();
    let saga_id = knowing.start(PLAIN.with(&TestInput::default())).await.unwrap().saga_id;
    knowing.shutdown().await;
    store_message(&pool, saga_id).await;

    let other = Saga::named(OBSERVED).then(Pack).pivot(Seal).build().unwrap();
    let another = Engine::builder(pool.clone()).register(other).build().unwrap();
    // Its delivery of this one shows that it looked.
    let its_own = another.start(OBSERVED.with(&TestInput::default())).await.unwrap().saga_id;
    let lock = lock_saga(&pool, its_own).await;
    assert_eq!(another.cancel(its_own, "ada", "stop it").await.unwrap(), CancelOutcome::Requested);
    lock.rollback().await.unwrap();
    assert_eq!(status(&another, its_own).await, Status::Compensated);
    assert_eq!(message_states(&pool).await, ["unread", "consumed"]);
    another.shutdown().await;

    let knowing = Engine::builder(pool.clone()).register(plain_saga()).build().unwrap();
    assert_eq!(status(&knowing, saga_id).await, Status::Compensated);
    knowing.shutdown().await;
}
