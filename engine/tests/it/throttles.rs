//! Throttled queues: a process claims no more than it may, makes no call that it may not, and others are not affected.

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
    queues::{Knock, Leave, Talk, VISIT, visit},
};

const HOUR: Allowance = Allowance::Blocked(Duration::from_hours(1));
const CALL: SagaName<TestInput> = SagaName::new("short-visit");

/// Sagas that knock and wait for the door, in a queue whose throttle can be set.
struct Street {
    engine: Engine,
    allowed: Arc<Mutex<Allowance>>,
    knocked: Arc<Semaphore>,
    opened: Arc<Semaphore>,
    stop: CancellationToken,
    worker: JoinHandle<()>,
}

impl Street {
    /// The engine knows the definition that `define` makes, and works on the queue `visits`.
    fn open(pool: sqlx::PgPool, allowed: Allowance, define: impl Fn(Knock) -> Definition) -> Self {
        let (knocked, opened) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let definition = define(Knock { knocked: knocked.clone(), opened: opened.clone() });
        let builder = Engine::builder(pool).poll(Duration::from_millis(20));
        let engine = builder.register(definition).register(fixtures::plain_saga()).build().unwrap();
        let allowed = Arc::new(Mutex::new(allowed));
        let told = allowed.clone();
        engine.throttle("visits", Arc::new(move || *told.lock().unwrap()));
        let stop = CancellationToken::new();
        let worker = tokio::spawn({
            let (engine, stop, mut feed) = (engine.clone(), stop.clone(), engine.feed("visits", 8));
            async move { engine.run(&mut feed, stop).await }
        });
        Self { engine, allowed, knocked, opened, stop, worker }
    }

    fn allow(&self, allowance: Allowance) {
        *self.allowed.lock().unwrap() = allowance;
    }

    async fn knocks(&self, count: u32) {
        let knocked = tokio::time::timeout(WAIT_TIMEOUT, self.knocked.acquire_many(count)).await;
        knocked.expect("they knock").unwrap().forget();
    }

    /// Lets many polls of the queue pass; nobody knocks meanwhile.
    async fn nobody_knocks(&self, saga: SagaId) {
        assert_eq!(self.engine.wait(saga, Duration::from_millis(500)).await.unwrap(), None);
        assert_eq!(self.knocked.available_permits(), 0);
    }

    async fn ends(&self, saga: SagaId) {
        assert_eq!(self.engine.wait(saga, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    }

    async fn close(self) {
        self.stop.cancel();
        self.worker.await.unwrap();
        self.engine.shutdown().await;
    }
}

fn short_visit(knock: Knock) -> Definition {
    Saga::named(CALL).queue("visits").then_call(knock).pivot(Leave).build().unwrap()
}

#[tokio::test]
async fn a_throttled_queue_gives_nothing_then_one_at_a_time_then_everything() {
    let (_database, pool) = fixtures::database().await;
    let street = Street::open(pool, HOUR, short_visit);
    let engine = &street.engine;
    let mut sagas = Vec::new();
    for _ in 0..6 {
        sagas.push(engine.start(CALL.with(&TestInput::default())).await.unwrap().saga_id);
    }
    // By id, as a carrier would, no more than by the feed that every start wakes.
    assert_eq!(engine.claim_ids(&sagas).await.unwrap(), 0);
    street.nobody_knocks(sagas[0]).await;
    for saga in &sagas {
        let view = engine.saga(*saga).await.unwrap().unwrap();
        assert_eq!((view.epoch, view.attempt), (0, 0), "nothing was written for it");
    }

    street.allow(Allowance::Probe);
    for place in 0..3 {
        street.knocks(1).await;
        street.nobody_knocks(sagas[place]).await;
        assert_eq!(engine.claim_ids(&sagas).await.unwrap(), 0, "the poll alone chooses whom to try with");
        street.opened.add_permits(1);
        street.ends(sagas[place]).await;
    }
    street.allow(Allowance::Unlimited);
    street.knocks(3).await;
    street.opened.add_permits(3);
    for saga in sagas {
        street.ends(saga).await;
        let history = engine.history(saga).await.unwrap().unwrap();
        assert!(history.iter().all(|entry| entry.outcome == HistoryOutcome::Done), "{history:?}");
    }
    assert_eq!(engine.verify_histories(10).await.unwrap(), []);
    street.close().await;
}

#[tokio::test]
async fn a_throttle_holds_up_one_queue_in_one_process() {
    let (_database, pool) = fixtures::database().await;
    let street = Street::open(pool.clone(), HOUR, short_visit);
    let test = TestEngine::start(street.engine.clone());
    let (_, ending) =
        test.engine.start_and_wait(PLAIN.with(&TestInput::default()), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(ending.unwrap().status, Status::Completed, "another queue");
    let saga = street.engine.start(CALL.with(&TestInput::default())).await.unwrap().saga_id;
    street.nobody_knocks(saga).await;
    let elsewhere = Street::open(pool, Allowance::Unlimited, short_visit);
    elsewhere.knocks(1).await;
    elsewhere.opened.add_permits(1);
    street.ends(saga).await;
    elsewhere.close().await;
    test.close().await;
    street.stop.cancel();
    street.worker.await.unwrap();
}

#[tokio::test]
async fn what_is_under_way_goes_on_through_transactions_and_waits_before_the_next_call() {
    let (_database, pool) = fixtures::database().await;
    let (calls, mended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(true)));
    let two_calls = |knock| visit(knock, Talk { calls: calls.clone(), mended: mended.clone() });
    let street = Street::open(pool.clone(), Allowance::Unlimited, two_calls);
    let engine = &street.engine;
    let saga = engine.start(VISIT.with(&TestInput::default())).await.unwrap().saga_id;
    street.knocks(1).await;
    street.allow(HOUR);
    street.opened.add_permits(1);
    // The call under way ends; the next one needs a claim of its own.
    street.nobody_knocks(saga).await;
    let view = engine.saga(saga).await.unwrap().unwrap();
    assert_eq!((view.step.as_str(), view.attempt, calls.load(Ordering::SeqCst)), ("talk", 0, 0));
    street.allow(Allowance::Probe);
    street.ends(saga).await;
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    street.close().await;

    let street = Street::open(pool, Allowance::Unlimited, short_visit);
    let saga = street.engine.start(CALL.with(&TestInput::default())).await.unwrap().saga_id;
    street.knocks(1).await;
    street.allow(HOUR);
    street.opened.add_permits(1);
    street.ends(saga).await;
    street.close().await;
}
