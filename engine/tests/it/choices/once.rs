//! A predicate is code that is asked until its answer is committed, and never after that.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use engine::{
    Definition, Direction, Engine, HistoryOutcome, Page, Saga, SagaName, Status, testing::expire_leases,
};

use super::{Drive, Parcel, Weigh, done, engine_of, stored_arms, verified};
use crate::{
    it::fixtures::{self, ExternalWorld, TestEngine, TestInput},
    support::WAIT_TIMEOUT,
};

const CHOOSES: SagaName<TestInput> = SagaName::new("chooses");

/// Packs if `answer` says so, then sends, and then files.
fn chooses(world: &ExternalWorld, answer: bool, asked: &Arc<AtomicUsize>) -> Definition {
    let (world, asked) = (world.clone(), asked.clone());
    Saga::named(CHOOSES)
        .then(fixtures::Pack)
        .when(
            "sends",
            move |_: &TestInput| {
                asked.fetch_add(1, Ordering::Relaxed);
                answer
            },
            |arm| arm.then_call(fixtures::Send(world)),
        )
        .pivot(fixtures::Seal)
        .build()
        .unwrap()
}

/// The process vanishes during the call in the arm. The next one has a predicate that says otherwise, and the same graph.
#[tokio::test]
async fn a_choice_that_was_made_stays_when_another_process_takes_over_that_would_decide_otherwise() {
    let (_database, pool) = fixtures::database().await;
    let (world, asked) = (ExternalWorld::default(), Arc::new(AtomicUsize::new(0)));
    world.answers.send_replace(false);
    let first = engine_of(&pool, chooses(&world, true, &asked));
    let id = first.engine.start(CHOOSES.with(&TestInput::default())).await.unwrap().saga_id;
    while world.sent.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(stored_arms(&pool, id).await.as_deref(), Some("y"), "the arm is committed before the call");
    let dead = first.engine.worker();
    first.engine.shutdown().await;
    expire_leases(&pool, dead).await.unwrap();
    world.answers.send_replace(true);
    let second = engine_of(&pool, chooses(&world, false, &asked));
    assert_eq!(second.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    assert_eq!(done(&second.engine, id).await, ["pack", "sends", "send", "seal"]);
    assert_eq!(asked.load(Ordering::Relaxed), 1, "it was asked once");
    let (other, _) =
        second.engine.start_and_wait(CHOOSES.with(&TestInput::default()), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(done(&second.engine, other.saga_id).await, ["pack", "sends", "seal"], "others go the new way");
    verified(&second.engine).await;
    second.close().await;
}

const PANICS: SagaName<Parcel> = SagaName::new("panics");

fn panics(works: &Arc<AtomicBool>) -> Definition {
    let works = works.clone();
    Saga::named(PANICS)
        .then(Weigh)
        .when(
            "is-insured",
            move |parcel: &Parcel| {
                assert!(works.load(Ordering::Relaxed), "the predicate panics");
                parcel.insured
            },
            |arm| arm.then(super::Stamp),
        )
        .then(Drive)
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_predicate_that_panics_is_asked_again_and_no_other_saga_suffers() {
    let (_database, pool) = fixtures::database().await;
    let works = Arc::new(AtomicBool::new(false));
    let test = engine_of(&pool, panics(&works));
    let id = test.engine.start(PANICS.with(&Parcel::default())).await.unwrap().saga_id;
    fixtures::holds(&pool, "select error like '%the predicate of `is-insured` panicked%' from engine.saga")
        .await;
    works.store(true, Ordering::Relaxed);
    let (_, other) = test.engine.start_and_wait(PANICS.with(&Parcel::default()), WAIT_TIMEOUT).await.unwrap();
    assert_eq!(other.unwrap().status, Status::Completed);
    assert_eq!(test.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    let history = test.engine.history(id).await.unwrap().unwrap();
    assert_eq!((history[1].step.as_str(), history[1].outcome), ("is-insured", HistoryOutcome::Retry));
    assert_eq!(stored_arms(&pool, id).await.as_deref(), Some("n"));
    verified(&test.engine).await;
    test.close().await;
}

/// What a predicate reads can't be read: as with a step, the saga waits for an operator, at the choice.
#[tokio::test]
async fn a_choice_whose_data_can_not_be_read_is_dead_and_made_when_it_is_retried() {
    let (_database, pool) = fixtures::database().await;
    let idle = Engine::builder(pool.clone()).register(reads_weight()).build().unwrap();
    let id = idle.start(READS.with(&Parcel::default())).await.unwrap().saga_id;
    let worker = TestEngine::start(idle);
    fixtures::holds(&pool, "select waits_for = 'sleep' from engine.saga").await;
    let change = |to: &'static str| {
        let pool = pool.clone();
        async move {
            sqlx::query("update engine.history_run set output = $1::jsonb where step = 'weigh'")
                .bind(to)
                .execute(&pool)
                .await
                .unwrap();
        }
    };
    change("7").await;
    engine::testing::end_waits(&pool).await.unwrap();
    let ending = worker.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(ending.status, Status::Dead);
    let saga = worker.engine.saga(id).await.unwrap().unwrap();
    assert_eq!((saga.step.as_str(), saga.direction), ("is-heavy", Direction::Action));
    let error = saga.error.unwrap();
    assert!(error.starts_with("`is-heavy` reads the output of `weigh`, which can't be read"), "{error}");
    change(r#""weigh 9""#).await;
    let page = Page { after: None, limit: 10 };
    let dead = worker.engine.dead_jobs(&engine::DeadJobFilter::default(), page).await.unwrap().items;
    worker.engine.retry_dead_job(dead[0].dead_job_id, "ada", "mended").await.unwrap();
    assert_eq!(worker.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap().status, Status::Completed);
    assert_eq!(stored_arms(&pool, id).await.as_deref(), Some("y"));
    verified(&worker.engine).await;
    worker.close().await;
}

const READS: SagaName<Parcel> = SagaName::new("reads-weight");

fn reads_weight() -> Definition {
    Saga::named(READS)
        .then(Weigh)
        .sleep("rest", crate::it::waits::LONG)
        .when("is-heavy", |weight: &super::Weight| weight.0.contains('9'), |arm| arm.then(super::Stamp))
        .then(Drive)
        .build()
        .unwrap()
}
