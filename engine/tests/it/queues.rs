//! Paused queues: no process claims in them, and nothing is lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use engine::{
    Batch, CallError, CallStep, Definition, Engine, ForwardOnly, Item, NothingToUndo, Outcome, Outcomes,
    Pause, RetryPolicy, Saga, SagaId, SagaName, Status, StepError, TransactionStep, Tx,
    testing::make_all_due,
};
use tokio::sync::Semaphore;

use super::fixtures::{self, PLAIN, TestEngine, TestInput};

use crate::support::WAIT_TIMEOUT;

const WHY: Pause<'_> = Pause { actor: "ada", reason: "the carrier is down" };

/// Pauses or resumes a queue; returns whether it was paused.
async fn set_pause(engine: &Engine, name: &str, pause: Option<&Pause<'_>>) -> bool {
    let mut transaction = engine.pool().begin().await.unwrap();
    let was = engine.set_queue_in(&mut transaction, name, pause).await.unwrap();
    transaction.commit().await.unwrap();
    engine.queue_changed(name);
    was
}

/// The number of due sagas in a queue.
async fn due(engine: &Engine, queue: &str) -> i64 {
    let queues = engine.queues().await.unwrap();
    queues.into_iter().find(|view| view.name == queue).unwrap().due
}

async fn attempts(engine: &Engine, saga: SagaId) -> u32 {
    engine.saga(saga).await.unwrap().unwrap().attempt
}

#[tokio::test]
async fn a_paused_queue_accepts_starts_but_claims_none_until_it_is_resumed() {
    let (_database, pool) = fixtures::database().await;
    let test = TestEngine::build(Engine::builder(pool).register(fixtures::plain_saga()));
    let engine = &test.engine;
    assert!(!set_pause(engine, "default", Some(&WHY)).await);
    let saga = engine.start(PLAIN.with(&TestInput::default())).await.unwrap().saga_id;
    // Nothing may claim the saga: not a claim by id, which a due hint causes, and not the feed, which the start wakes.
    assert_eq!(engine.claim_ids(&[saga]).await.unwrap(), 0);
    assert_eq!(engine.wait(saga, Duration::from_millis(1500)).await.unwrap(), None);
    assert_eq!((due(engine, "default").await, attempts(engine, saga).await), (1, 0));

    let view = engine.queues().await.unwrap().remove(0);
    assert!(view.paused && view.since.is_some());
    assert_eq!((view.paused_by.as_deref(), view.reason.as_deref()), (Some(WHY.actor), Some(WHY.reason)));
    assert!(set_pause(engine, "default", None).await, "it was paused");
    assert_eq!(engine.wait(saga, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    assert!(!engine.queues().await.unwrap()[0].paused);
    test.close().await;
}

#[tokio::test]
async fn a_process_that_starts_while_a_queue_is_paused_claims_nothing_in_it() {
    let (_database, pool) = fixtures::database().await;
    let other = Engine::builder(pool.clone()).register(fixtures::plain_saga()).build().unwrap();
    set_pause(&other, "default", Some(&WHY)).await;
    let saga = other.start(PLAIN.with(&TestInput::default())).await.unwrap().saga_id;
    let test = TestEngine::build(Engine::builder(pool).register(fixtures::plain_saga()));
    assert_eq!(test.engine.wait(saga, Duration::from_secs(1)).await.unwrap(), None);
    assert_eq!(attempts(&other, saga).await, 0);

    // The process notices when another one resumes the queue.
    set_pause(&other, "default", None).await;
    assert_eq!(test.engine.wait(saga, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    test.close().await;
    other.shutdown().await;
}

#[tokio::test]
async fn a_pause_reaches_other_processes() {
    let (_database, pool) = fixtures::database().await;
    let test = TestEngine::build(Engine::builder(pool.clone()).register(fixtures::plain_saga()));
    let other = Engine::builder(pool).register(fixtures::plain_saga()).build().unwrap();
    let before = other.start(PLAIN.with(&TestInput::default())).await.unwrap().saga_id;
    assert_eq!(other.wait(before, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    set_pause(&other, "default", Some(&WHY)).await;
    // The other process may still claim sagas for about a second. The loop ends with the first saga that is not
    // claimed.
    let left = tokio::time::timeout(WAIT_TIMEOUT, async {
        loop {
            let saga = other.start(PLAIN.with(&TestInput::default())).await.unwrap().saga_id;
            if other.wait(saga, Duration::from_secs(2)).await.unwrap().is_none() {
                return saga;
            }
        }
    });
    let left = left.await.expect("the pause takes effect");
    set_pause(&other, "default", None).await;
    assert_eq!(other.wait(left, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    test.close().await;
    other.shutdown().await;
}

pub(super) const TWO_CALLS: SagaName<TestInput> = SagaName::new("two-calls");

/// Blocks until the test adds a permit to `answers`.
pub(super) struct FirstCall {
    pub(super) called: Arc<Semaphore>,
    pub(super) answers: Arc<Semaphore>,
}

impl CallStep for FirstCall {
    const NAME: &'static str = "first";
    type Input = TestInput;
    type Output = ();
    type Undo = NothingToUndo;

    async fn call(&self, _: &Item<TestInput>) -> Result<Outcome<()>, CallError> {
        self.called.add_permits(1);
        self.answers.acquire().await?.forget();
        Ok(Outcome::Done(()))
    }
}

/// Fails until the test sets `works`.
pub(super) struct SecondCall {
    pub(super) calls: Arc<AtomicUsize>,
    pub(super) works: Arc<AtomicBool>,
}

impl CallStep for SecondCall {
    const NAME: &'static str = "second";
    const RETRY: RetryPolicy =
        RetryPolicy { first_delay: Duration::from_millis(1), attempts: 1000, ..RetryPolicy::CALL };
    type Input = TestInput;
    type Output = ();
    type Undo = NothingToUndo;

    async fn call(&self, _: &Item<TestInput>) -> Result<Outcome<()>, CallError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.works.load(Ordering::SeqCst) {
            return Ok(Outcome::Done(()));
        }
        Err("the second call fails".into())
    }
}

pub(super) struct Finish;

impl TransactionStep for Finish {
    const NAME: &'static str = "finish";
    type Input = TestInput;
    type Output = ();
    type Undo = ForwardOnly;

    async fn run(&self, _: &mut Tx<'_>, batch: &Batch<TestInput>) -> Result<Outcomes<()>, StepError> {
        Ok(batch.decide(|_| Outcome::Done(())))
    }
}

pub(super) fn two_calls_saga(first: FirstCall, second: SecondCall) -> Definition {
    Saga::named(TWO_CALLS)
        .queue("slow-calls")
        .then_call(first)
        .then_call(second)
        .pivot(Finish)
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_running_saga_continues_in_a_paused_queue_until_its_next_claim() {
    let (_database, pool) = fixtures::database().await;
    let (called, answers) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (calls, works) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let definition = two_calls_saga(
        FirstCall { called: called.clone(), answers: answers.clone() },
        SecondCall { calls: calls.clone(), works: works.clone() },
    );
    let engine = Engine::builder(pool.clone()).register(definition).build().unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let worker = tokio::spawn({
        let (engine, stop, mut feed) = (engine.clone(), stop.clone(), engine.feed("slow-calls", 8));
        async move { engine.run(&mut feed, stop).await }
    });
    let saga = engine.start(TWO_CALLS.with(&TestInput::default())).await.unwrap().saga_id;
    called.acquire().await.unwrap().forget();
    set_pause(&engine, "slow-calls", Some(&WHY)).await;
    answers.add_permits(1);

    // The running call ends, and the next one is made under the same claim. Its retry needs a new claim and waits.
    tokio::time::timeout(WAIT_TIMEOUT, async {
        while calls.load(Ordering::SeqCst) == 0 || due(&engine, "slow-calls").await == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the second call is made, and its retry becomes due");
    works.store(true, Ordering::SeqCst);
    make_all_due(&pool).await.unwrap();
    assert_eq!(engine.wait(saga, Duration::from_millis(1500)).await.unwrap(), None);
    assert_eq!(calls.load(Ordering::SeqCst), 1, "the retry waits");

    set_pause(&engine, "slow-calls", None).await;
    assert_eq!(engine.wait(saga, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    assert_eq!(engine.verify_histories(10).await.unwrap(), []);
    stop.cancel();
    worker.await.unwrap();
    engine.shutdown().await;
}

#[tokio::test]
async fn a_pause_affects_one_queue_only() {
    let (_database, pool) = fixtures::database().await;
    let test = TestEngine::build(Engine::builder(pool).register(fixtures::plain_saga()));
    let engine = &test.engine;
    set_pause(engine, "slow-calls", Some(&WHY)).await;
    let (started, ending) =
        engine.start_and_wait(PLAIN.with(&TestInput::default()), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Completed);
    assert_eq!(engine.claim_ids(&[started.saga_id]).await.unwrap(), 0, "it has ended");
    let names: Vec<_> =
        engine.queues().await.unwrap().into_iter().map(|view| (view.name, view.paused)).collect();
    assert_eq!(names, [("default".into(), false), ("slow-calls".into(), true)]);
    test.close().await;
}

#[tokio::test]
async fn pausing_again_changes_the_reason_and_keeps_the_time() {
    let (_database, pool) = fixtures::database().await;
    let engine = Engine::builder(pool).register(fixtures::plain_saga()).build().unwrap();
    set_pause(&engine, "default", Some(&WHY)).await;
    let first = engine.queues().await.unwrap().remove(0);
    let other = Pause { actor: "bob", reason: "still down" };
    assert!(set_pause(&engine, "default", Some(&other)).await);
    let second = engine.queues().await.unwrap().remove(0);
    assert_eq!((second.since, second.reason.as_deref()), (first.since, Some("still down")));
    engine.shutdown().await;
}
