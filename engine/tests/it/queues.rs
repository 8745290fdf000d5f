//! Paused queues: nothing is claimed in them, in no process, and nothing is lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use engine::{
    Batch, CallStep, Definition, Engine, ForwardOnly, Item, NothingToUndo, Outcome, Outcomes, Pause,
    RetryPolicy, Saga, SagaId, SagaName, Status, StepError, TransactionStep, Tx, testing::skip_waiting,
};
use tokio::sync::Semaphore;

use super::fixtures::{self, PLAIN, TestEngine, TestInput};

use crate::support::WAIT_TIMEOUT;

const WHY: Pause<'_> = Pause { actor: "ada", reason: "the drawers are painted" };

async fn set(engine: &Engine, name: &str, pause: Option<&Pause<'_>>) -> bool {
    let mut transaction = engine.pool().begin().await.unwrap();
    let was = engine.set_queue_in(&mut transaction, name, pause).await.unwrap();
    transaction.commit().await.unwrap();
    engine.queue_changed(name);
    was
}

/// Waits until another process's claims have heeded what was set: a saga that it alone could have claimed tells.
async fn due(engine: &Engine, queue: &str) -> i64 {
    let queues = engine.queues().await.unwrap();
    queues.into_iter().find(|view| view.name == queue).unwrap().due
}

async fn attempts(engine: &Engine, saga: SagaId) -> u32 {
    engine.saga(saga).await.unwrap().unwrap().attempt
}

#[tokio::test]
async fn a_paused_queue_takes_starts_and_moves_none_until_it_is_resumed() {
    let (_database, pool) = fixtures::database().await;
    let test = TestEngine::build(Engine::builder(pool).register(fixtures::plain_saga()));
    let engine = &test.engine;
    assert!(!set(engine, "default", Some(&WHY)).await);
    let saga = engine.start(PLAIN.with(&TestInput::default())).await.unwrap().saga_id;
    // Claimed by id, as a carrier would, and by the feed, which is woken by the start: neither may take it.
    assert_eq!(engine.claim_ids(&[saga]).await.unwrap(), 0);
    assert_eq!(engine.wait(saga, Duration::from_millis(1500)).await.unwrap(), None);
    assert_eq!((due(engine, "default").await, attempts(engine, saga).await), (1, 0));

    let view = engine.queues().await.unwrap().remove(0);
    assert!(view.paused && view.since.is_some());
    assert_eq!((view.paused_by.as_deref(), view.reason.as_deref()), (Some(WHY.actor), Some(WHY.reason)));
    assert!(set(engine, "default", None).await, "it was paused");
    assert_eq!(engine.wait(saga, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    assert!(!engine.queues().await.unwrap()[0].paused);
    test.close().await;
}

#[tokio::test]
async fn a_process_that_starts_while_a_queue_is_paused_claims_nothing_in_it() {
    let (_database, pool) = fixtures::database().await;
    let office = Engine::builder(pool.clone()).register(fixtures::plain_saga()).build().unwrap();
    set(&office, "default", Some(&WHY)).await;
    let saga = office.start(PLAIN.with(&TestInput::default())).await.unwrap().saga_id;
    let test = TestEngine::build(Engine::builder(pool).register(fixtures::plain_saga()));
    assert_eq!(test.engine.wait(saga, Duration::from_secs(1)).await.unwrap(), None);
    assert_eq!(attempts(&office, saga).await, 0);

    // And it hears of the resumption, which another process commits.
    set(&office, "default", None).await;
    assert_eq!(test.engine.wait(saga, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    test.close().await;
    office.shutdown().await;
}

#[tokio::test]
async fn a_pause_reaches_processes_elsewhere() {
    let (_database, pool) = fixtures::database().await;
    let test = TestEngine::build(Engine::builder(pool.clone()).register(fixtures::plain_saga()));
    let office = Engine::builder(pool).register(fixtures::plain_saga()).build().unwrap();
    let before = office.start(PLAIN.with(&TestInput::default())).await.unwrap().saga_id;
    assert_eq!(office.wait(before, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    set(&office, "default", Some(&WHY)).await;
    // Some may still be taken for about a second; then one is not.
    let left = tokio::time::timeout(WAIT_TIMEOUT, async {
        loop {
            let saga = office.start(PLAIN.with(&TestInput::default())).await.unwrap().saga_id;
            if office.wait(saga, Duration::from_secs(2)).await.unwrap().is_none() {
                return saga;
            }
        }
    });
    let left = left.await.expect("the pause is heeded");
    set(&office, "default", None).await;
    assert_eq!(office.wait(left, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    test.close().await;
    office.shutdown().await;
}

pub(super) const VISIT: SagaName<TestInput> = SagaName::new("visit");

/// Two calls in a row: the first waits until the door is opened, the second fails until it is mended.
pub(super) struct Knock {
    pub(super) knocked: Arc<Semaphore>,
    pub(super) opened: Arc<Semaphore>,
}

impl CallStep for Knock {
    const NAME: &'static str = "knock";
    type Input = TestInput;
    type Output = ();
    type Undo = NothingToUndo;

    async fn call(&self, _: &Item<TestInput>) -> Outcome<()> {
        self.knocked.add_permits(1);
        let opened = self.opened.acquire().await;
        let Ok(opened) = opened else { return Outcome::fail("gone", "nobody is there") };
        opened.forget();
        Outcome::Done(())
    }
}

pub(super) struct Talk {
    pub(super) calls: Arc<AtomicUsize>,
    pub(super) mended: Arc<AtomicBool>,
}

impl CallStep for Talk {
    const NAME: &'static str = "talk";
    const RETRY: RetryPolicy =
        RetryPolicy { first_delay: Duration::from_millis(1), attempts: 1000, ..RetryPolicy::CALL };
    type Input = TestInput;
    type Output = ();
    type Undo = NothingToUndo;

    async fn call(&self, _: &Item<TestInput>) -> Outcome<()> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.mended.load(Ordering::SeqCst) {
            return Outcome::Done(());
        }
        Outcome::Retry(engine::Retry::message("nothing to say"))
    }
}

pub(super) struct Leave;

impl TransactionStep for Leave {
    const NAME: &'static str = "leave";
    type Input = TestInput;
    type Output = ();
    type Undo = ForwardOnly;

    async fn run(&self, _: &mut Tx<'_>, batch: &Batch<TestInput>) -> Result<Outcomes<()>, StepError> {
        Ok(batch.decide(|_| Outcome::Done(())))
    }
}

pub(super) fn visit(knock: Knock, talk: Talk) -> Definition {
    Saga::named(VISIT).queue("visits").then_call(knock).then_call(talk).pivot(Leave).build().unwrap()
}

#[tokio::test]
async fn what_is_under_way_goes_on_until_it_waits_and_then_waits_for_the_queue() {
    let (_database, pool) = fixtures::database().await;
    let (knocked, opened) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (calls, mended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let definition = visit(
        Knock { knocked: knocked.clone(), opened: opened.clone() },
        Talk { calls: calls.clone(), mended: mended.clone() },
    );
    let engine = Engine::builder(pool.clone()).register(definition).build().unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let worker = tokio::spawn({
        let (engine, stop, mut feed) = (engine.clone(), stop.clone(), engine.feed("visits", 8));
        async move { engine.run(&mut feed, stop).await }
    });
    let saga = engine.start(VISIT.with(&TestInput::default())).await.unwrap().saga_id;
    knocked.acquire().await.unwrap().forget();
    set(&engine, "visits", Some(&WHY)).await;
    opened.add_permits(1);

    // The call under way ends, the next one is made by the same claim; its retry needs a claim and waits.
    tokio::time::timeout(WAIT_TIMEOUT, async {
        while calls.load(Ordering::SeqCst) == 0 || due(&engine, "visits").await == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the second call is made, and its retry becomes due");
    mended.store(true, Ordering::SeqCst);
    skip_waiting(&pool, None).await.unwrap();
    assert_eq!(engine.wait(saga, Duration::from_millis(1500)).await.unwrap(), None);
    assert_eq!(calls.load(Ordering::SeqCst), 1, "the retry waits");

    set(&engine, "visits", None).await;
    assert_eq!(engine.wait(saga, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    assert_eq!(engine.verify_histories(10).await.unwrap(), []);
    stop.cancel();
    worker.await.unwrap();
    engine.shutdown().await;
}

#[tokio::test]
async fn a_pause_holds_up_one_queue_and_no_other() {
    let (_database, pool) = fixtures::database().await;
    let test = TestEngine::build(Engine::builder(pool).register(fixtures::plain_saga()));
    let engine = &test.engine;
    set(engine, "visits", Some(&WHY)).await;
    let (started, ending) =
        engine.start_and_wait(PLAIN.with(&TestInput::default()), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Completed);
    assert_eq!(engine.claim_ids(&[started.saga_id]).await.unwrap(), 0, "it has ended");
    let names: Vec<_> =
        engine.queues().await.unwrap().into_iter().map(|view| (view.name, view.paused)).collect();
    assert_eq!(names, [("default".into(), false), ("visits".into(), true)]);
    test.close().await;
}

#[tokio::test]
async fn pausing_again_changes_the_reason_and_keeps_the_time() {
    let (_database, pool) = fixtures::database().await;
    let engine = Engine::builder(pool).register(fixtures::plain_saga()).build().unwrap();
    set(&engine, "default", Some(&WHY)).await;
    let first = engine.queues().await.unwrap().remove(0);
    let other = Pause { actor: "bob", reason: "still wet" };
    assert!(set(&engine, "default", Some(&other)).await);
    let second = engine.queues().await.unwrap().remove(0);
    assert_eq!((second.since, second.reason.as_deref()), (first.since, Some("still wet")));
    engine.shutdown().await;
}
