//! Throttled queues: a process claims only what the throttle admits, makes no other call, and other queues and
//! processes are not affected.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use engine::{Allowance, Definition, Engine, HistoryOutcome, Saga, SagaId, SagaName, Status};
use tokio::{sync::Semaphore, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::support::WAIT_TIMEOUT;

use super::{
    fixtures::{self, PLAIN, TestEngine, TestInput},
    queues::{Finish, FirstCall, SecondCall, TWO_CALLS, two_calls_saga},
};

const HOUR: Allowance = Allowance::Blocked(Duration::from_hours(1));
const CALL: SagaName<TestInput> = SagaName::new("one-call");

/// Sagas whose first call blocks, in a queue whose throttle can be set.
struct ThrottledQueue {
    engine: Engine,
    /// What the throttle answers, and how often it has done so since it was set.
    allowed: Arc<Mutex<(Allowance, u64)>>,
    called: Arc<Semaphore>,
    answers: Arc<Semaphore>,
    stop: CancellationToken,
    worker: JoinHandle<()>,
}

impl ThrottledQueue {
    /// The engine knows the definition that `define` makes, and works on the queue `slow-calls`.
    fn open(pool: sqlx::PgPool, allowed: Allowance, define: impl Fn(FirstCall) -> Definition) -> Self {
        let (called, answers) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let definition = define(FirstCall { called: called.clone(), answers: answers.clone() });
        let builder = Engine::builder(pool).poll(Duration::from_millis(20));
        let engine = builder.register(definition).register(fixtures::plain_saga()).build().unwrap();
        let allowed = Arc::new(Mutex::new((allowed, 0)));
        let current = allowed.clone();
        let answer = move || {
            let mut current = current.lock().unwrap();
            current.1 += 1;
            current.0
        };
        engine.throttle("slow-calls", Arc::new(answer));
        let stop = CancellationToken::new();
        let worker = tokio::spawn({
            let (engine, stop, mut feed) = (engine.clone(), stop.clone(), engine.feed("slow-calls", 8));
            async move { engine.run(&mut feed, stop).await }
        });
        Self { engine, allowed, called, answers, stop, worker }
    }

    /// Sets how much of the queue the engine may claim.
    fn allow(&self, allowance: Allowance) {
        *self.allowed.lock().unwrap() = (allowance, 0);
    }

    /// As [`Self::allow`], and waits until no claim is under way that was admitted before.
    async fn allow_from_now_on(&self, allowance: Allowance) {
        self.allow(allowance);
        // A claim that was admitted before may still ask twice.
        let asked = async {
            while self.allowed.lock().unwrap().1 < 3 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(WAIT_TIMEOUT, asked).await.expect("the next claim asks the throttle");
    }

    async fn expect_calls(&self, count: u32) {
        let called = tokio::time::timeout(WAIT_TIMEOUT, self.called.acquire_many(count)).await;
        called.expect("the calls are made").unwrap().forget();
    }

    /// Waits for many polls of the queue, during which no call may be made.
    async fn expect_no_call(&self, saga: SagaId) {
        assert_eq!(self.engine.wait(saga, Duration::from_millis(500)).await.unwrap(), None);
        assert_eq!(self.called.available_permits(), 0);
    }

    /// Waits until the saga has completed.
    async fn ends(&self, saga: SagaId) {
        assert_eq!(self.engine.wait(saga, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    }

    async fn close(self) {
        self.stop.cancel();
        self.worker.await.unwrap();
        self.engine.shutdown().await;
    }
}

fn one_call_saga(first: FirstCall) -> Definition {
    Saga::named(CALL).queue("slow-calls").then_call(first).pivot(Finish).build().unwrap()
}

#[tokio::test]
async fn a_throttle_blocks_then_admits_probes_then_everything() {
    let (_database, pool) = fixtures::database().await;
    let throttled = ThrottledQueue::open(pool, HOUR, one_call_saga);
    let engine = &throttled.engine;
    let mut sagas = Vec::new();
    for _ in 0..6 {
        sagas.push(engine.start(CALL.with(&TestInput::default())).await.unwrap().saga_id);
    }
    // A claim by id, as for a due hint, gets no more than the feed that every start wakes.
    assert_eq!(engine.claim_ids(&sagas).await.unwrap(), 0);
    throttled.expect_no_call(sagas[0]).await;
    for saga in &sagas {
        let view = engine.saga(*saga).await.unwrap().unwrap();
        assert_eq!((view.epoch, view.attempt), (0, 0), "nothing was written for it");
    }

    throttled.allow(Allowance::Probe);
    for index in 0..3 {
        throttled.expect_calls(1).await;
        throttled.expect_no_call(sagas[index]).await;
        assert_eq!(engine.claim_ids(&sagas).await.unwrap(), 0, "only the poll claims a probe");
        throttled.answers.add_permits(1);
        throttled.ends(sagas[index]).await;
    }
    throttled.allow(Allowance::Unlimited);
    throttled.expect_calls(3).await;
    throttled.answers.add_permits(3);
    for saga in sagas {
        throttled.ends(saga).await;
        let history = engine.history(saga).await.unwrap().unwrap();
        assert!(history.iter().all(|entry| entry.outcome == HistoryOutcome::Done), "{history:?}");
    }
    assert_eq!(engine.verify_histories(10).await.unwrap(), []);
    throttled.close().await;
}

#[tokio::test]
async fn a_throttle_affects_one_queue_in_one_process() {
    let (_database, pool) = fixtures::database().await;
    let throttled = ThrottledQueue::open(pool.clone(), HOUR, one_call_saga);
    let test = TestEngine::start(throttled.engine.clone());
    let (_, ending) =
        test.engine.start_and_wait(PLAIN.with(&TestInput::default()), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Completed, "another queue");
    let saga = throttled.engine.start(CALL.with(&TestInput::default())).await.unwrap().saga_id;
    throttled.expect_no_call(saga).await;
    let elsewhere = ThrottledQueue::open(pool, Allowance::Unlimited, one_call_saga);
    elsewhere.expect_calls(1).await;
    elsewhere.answers.add_permits(1);
    throttled.ends(saga).await;
    elsewhere.close().await;
    test.close().await;
    throttled.stop.cancel();
    throttled.worker.await.unwrap();
}

#[tokio::test]
async fn a_running_saga_continues_in_a_throttled_queue_until_its_next_call() {
    let (_database, pool) = fixtures::database().await;
    let (calls, works) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(true)));
    let two_calls = |first| two_calls_saga(first, SecondCall { calls: calls.clone(), works: works.clone() });
    let throttled = ThrottledQueue::open(pool.clone(), Allowance::Unlimited, two_calls);
    let engine = &throttled.engine;
    let saga = engine.start(TWO_CALLS.with(&TestInput::default())).await.unwrap().saga_id;
    throttled.expect_calls(1).await;
    throttled.allow_from_now_on(HOUR).await;
    throttled.answers.add_permits(1);
    // The running call ends; the next one needs a new claim.
    throttled.expect_no_call(saga).await;
    let view = engine.saga(saga).await.unwrap().unwrap();
    assert_eq!((view.step.as_str(), view.attempt, calls.load(Ordering::SeqCst)), ("second", 0, 0));
    throttled.allow(Allowance::Probe);
    throttled.ends(saga).await;
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    throttled.close().await;

    let throttled = ThrottledQueue::open(pool, Allowance::Unlimited, one_call_saga);
    let saga = throttled.engine.start(CALL.with(&TestInput::default())).await.unwrap().saga_id;
    throttled.expect_calls(1).await;
    throttled.allow(HOUR);
    throttled.answers.add_permits(1);
    throttled.ends(saga).await;
    throttled.close().await;
}
