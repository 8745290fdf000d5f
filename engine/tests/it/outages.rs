//! Outages, stops and processes that know only some definitions: claims, calls in doubt and requests for cancels
//! survive.

use std::time::Duration;

use engine::{CancelOutcome, Committed, Engine, HistoryOutcome, Performed, Status, testing::expire_leases};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::{
    claims::next,
    fixtures::{self, ExternalWorld, FULL, PLAIN, TestEngine, TestInput},
};

use crate::support::{WAIT_TIMEOUT, as_owner};

/// Starts a saga and runs it up to its call.
async fn at_the_call(engine: &Engine, feed: &mut engine::Feed) -> (engine::SagaId, engine::Job) {
    let started = engine.start(FULL.with(&TestInput::default())).await.unwrap();
    let job = next(feed).await;
    let performed = engine.perform(&job).await;
    assert_eq!(engine.commit(job, performed).await, Committed::Applied);
    let call = next(feed).await;
    assert_eq!(call.step(), "send");
    (started.saga_id, call)
}

/// Makes every statement fail, and waits until the leases have ended.
async fn take_away(pool: &PgPool) {
    as_owner(pool, "alter table engine.saga rename to saga_away").await.unwrap();
    let lapsed = "select bool_and(lease_until < now() - interval '300 ms') from engine.saga_away";
    while !sqlx::query_scalar::<_, bool>(lapsed).fetch_one(pool).await.unwrap() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn bring_back(pool: &PgPool) {
    as_owner(pool, "alter table engine.saga_away rename to saga").await.unwrap();
}

#[tokio::test]
async fn a_call_does_not_begin_on_a_lease_that_has_ended() {
    let (_database, pool) = fixtures::database().await;
    let world = ExternalWorld::default();
    let engine = Engine::builder(pool.clone())
        .register(fixtures::full_saga(&world))
        .lease(Duration::from_secs(2))
        .poll(Duration::from_millis(10))
        .build()
        .unwrap();
    let mut feed = engine.feed("default", 1);
    let (saga_id, call) = at_the_call(&engine, &mut feed).await;

    take_away(&pool).await;
    let performed = engine.perform(&call).await;
    assert_eq!(world.sent.lock().unwrap().len(), 0, "another process may make the call");
    assert_eq!(engine.commit(call, performed).await, Committed::Lost);
    bring_back(&pool).await;

    let call = next(&mut feed).await;
    assert_eq!((call.saga_id(), call.step()), (saga_id, "send"));
    let performed = engine.perform(&call).await;
    assert_eq!(engine.commit(call, performed).await, Committed::Applied);
    assert_eq!(world.sent.lock().unwrap().len(), 1);
    assert_eq!(engine.verify_histories(10).await.unwrap(), []);
    feed.close();
    engine.shutdown().await;
}

#[tokio::test]
async fn a_call_begins_once_its_ended_lease_is_extended() {
    let (_database, pool) = fixtures::database().await;
    let world = ExternalWorld::default();
    let engine = Engine::builder(pool.clone())
        .register(fixtures::full_saga(&world))
        .lease(Duration::from_secs(2))
        .build()
        .unwrap();
    let mut feed = engine.feed("default", 1);
    let (_, call) = at_the_call(&engine, &mut feed).await;
    take_away(&pool).await;
    bring_back(&pool).await;
    let performed = engine.perform(&call).await;
    assert_eq!(engine.commit(call, performed).await, Committed::Applied);
    assert_eq!(world.sent.lock().unwrap().len(), 1);
    feed.close();
    engine.shutdown().await;
}

#[tokio::test]
async fn an_outage_longer_than_the_lease_does_not_make_a_process_take_over_its_own_claims() {
    let (_database, pool) = fixtures::database().await;
    let world = ExternalWorld::default();
    let lease = Duration::from_secs(2);
    let engine = Engine::builder(pool.clone())
        .register(fixtures::full_saga(&world))
        .lease(lease)
        .poll(Duration::from_millis(10))
        .build()
        .unwrap();
    let mut feed = engine.feed("default", 8);
    let (saga_id, call) = at_the_call(&engine, &mut feed).await;
    let performed = engine.perform(&call).await;

    // Every statement fails until the lease has ended. Then the claim loop, which polls more often than the lease
    // keeper, runs first.
    take_away(&pool).await;
    bring_back(&pool).await;

    assert_eq!(engine.commit(call, performed).await, Committed::Applied);
    let history = engine.history(saga_id).await.unwrap().unwrap();
    let lost = history.iter().filter(|entry| entry.outcome == HistoryOutcome::Lost).count();
    assert_eq!(lost, 0, "{history:?}");
    feed.close();
    engine.shutdown().await;
}

#[tokio::test]
async fn sagas_on_probation_run_one_after_the_other_without_waiting_for_a_poll() {
    let (_database, pool) = fixtures::database().await;
    let caller = Engine::builder(pool.clone()).register(fixtures::plain_saga()).build().unwrap();
    let mut sagas = Vec::new();
    for _ in 0..5 {
        sagas.push(caller.start(PLAIN.with(&TestInput::default())).await.unwrap().saga_id);
    }
    sqlx::query(
        "update engine.saga set lease_owner = gen_random_uuid(), lost_attempts = 1, epoch = 1, claimed_at = now(), \
             lease_until = now() - interval '1 s', due_at = null",
    )
    .execute(&pool)
    .await
    .unwrap();
    let hourly = Engine::builder(pool).register(fixtures::plain_saga()).poll(Duration::from_hours(1));
    let test = TestEngine::build(hourly);
    for saga_id in sagas {
        let ending =
            caller.wait(saga_id, WAIT_TIMEOUT).await.unwrap().expect("it does not wait for the poll");
        assert_eq!(ending.status, Status::Completed);
    }
    caller.shutdown().await;
    test.close().await;
}

#[tokio::test]
async fn a_call_that_is_set_aside_stays_in_doubt_and_keeps_its_cancel() {
    let (_database, pool) = fixtures::database().await;
    let world = ExternalWorld::default();
    let aware = Engine::builder(pool.clone()).register(fixtures::full_saga(&world)).build().unwrap();
    // The feed has one slot, and the job fills it, so the engine can't take over its own saga.
    let mut feed = aware.feed("default", 1);
    let (saga_id, call) = at_the_call(&aware, &mut feed).await;
    let _answer_that_is_never_committed = aware.perform(&call).await;
    let answer = aware.cancel(saga_id, "ada", "too slow").await.unwrap();
    assert_eq!(answer, CancelOutcome::Requested);
    feed.close();
    fixtures::holds(&pool, "select not exists (select from engine.process where 'default' = any(queues))")
        .await;

    let unaware = unaware(&pool, Duration::ZERO);
    expire_leases(&pool, aware.worker()).await.unwrap();
    fixtures::holds(&pool, WAITS_FOR_VERSION).await;
    unaware.close().await;
    drop(call);
    feed.closed().await;
    aware.shutdown().await;

    let test = TestEngine::build(Engine::builder(pool).register(fixtures::full_saga(&world)));
    let ending = test.engine.wait(saga_id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(ending.status, Status::Compensated, "the cancel is kept");
    let sent = world.sent.lock().unwrap().clone();
    assert_eq!(sent.len(), 1);
    assert_eq!(*world.taken_back.lock().unwrap(), sent, "the call is undone, because it is in doubt");
    assert_eq!(test.engine.verify_histories(10).await.unwrap(), []);
    test.close().await;
}

const WAITS_FOR_VERSION: &str = "select exists (select from engine.saga where waits_for = 'version' \
     and due_at is null and lease_until is null and status = 'running')";

/// An engine that knows no saga and sweeps often.
fn unaware(pool: &PgPool, grace: Duration) -> TestEngine {
    let builder = Engine::builder(pool.clone()).unknown_grace(grace).sweep(Duration::from_millis(20));
    TestEngine::build(builder)
}

#[tokio::test]
async fn a_process_leaves_unknown_sagas_to_processes_that_know_them() {
    let (_database, pool) = fixtures::database().await;
    let unaware = TestEngine::build(Engine::builder(pool.clone()).poll(Duration::from_millis(5)));
    let caller = Engine::builder(pool.clone()).register(fixtures::plain_saga()).build().unwrap();
    let started = caller.start(PLAIN.with(&TestInput::default())).await.unwrap();
    // By now the unaware process has polled the queue. A claim by id follows the same rules as the poll.
    assert_eq!(unaware.engine.claim_ids(&[started.saga_id]).await.unwrap(), 0);
    let saga = caller.saga(started.saga_id).await.unwrap().unwrap();
    assert_eq!((saga.epoch, saga.attempt), (0, 0));
    let test = TestEngine::start(caller);
    let ending = test.engine.wait(started.saga_id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(ending.status, Status::Completed);
    unaware.close().await;
    test.close().await;
}

#[tokio::test]
async fn an_overdue_saga_is_left_alone_while_a_live_process_knows_its_step() {
    let (_database, pool) = fixtures::database().await;
    // A busy process: its only slot is taken, so it claims nothing.
    let busy = Engine::builder(pool.clone()).register(fixtures::plain_saga()).build().unwrap();
    let mut feed = busy.feed("default", 1);
    busy.start(PLAIN.with(&TestInput::default())).await.unwrap();
    let held = feed.recv().await.unwrap();
    let started = busy.start(PLAIN.with(&TestInput::default())).await.unwrap();
    sqlx::query("update engine.saga set due_at = now() - interval '1 hour' where id = $1")
        .bind(started.saga_id.0)
        .execute(&pool)
        .await
        .unwrap();
    fixtures::holds(&pool, "select exists (select from engine.process where 'default' = any(queues))").await;
    let stranger = Engine::builder(pool.clone()).register(fixtures::full_saga(&ExternalWorld::default()));
    let unknown = stranger.build().unwrap();
    let other = unknown.start(FULL.with(&TestInput::default())).await.unwrap();

    let unaware = unaware(&pool, Duration::ZERO);
    let aside = "select waits_for = 'version' from engine.saga where id = ";
    fixtures::holds(&pool, &format!("{aside} '{}'", other.saga_id)).await;
    let saga = busy.saga(started.saga_id).await.unwrap().unwrap();
    assert!(saga.due_at.is_some(), "what the busy process knows is due as before");

    busy.commit(held, Performed::in_batch()).await;
    let ending = tokio::spawn({
        let busy = busy.clone();
        async move { busy.wait(started.saga_id, WAIT_TIMEOUT).await }
    });
    let stop = CancellationToken::new();
    let working = tokio::spawn({
        let (busy, stop) = (busy.clone(), stop.clone());
        async move { busy.run(&mut feed, stop).await }
    });
    assert_eq!(ending.await.unwrap().unwrap().unwrap().status, Status::Completed);
    stop.cancel();
    working.await.unwrap();
    unaware.close().await;
    unknown.shutdown().await;
    busy.shutdown().await;
}

#[tokio::test]
async fn a_call_made_while_the_engine_stops_stays_in_doubt() {
    let (_database, pool) = fixtures::database().await;
    let world = ExternalWorld::default();
    let engine = Engine::builder(pool.clone()).register(fixtures::full_saga(&world)).build().unwrap();
    let mut feed = engine.feed("default", 1);
    let (saga_id, call) = at_the_call(&engine, &mut feed).await;
    let performed = engine.perform(&call).await;
    feed.close();
    engine.shutdown().await;
    assert_eq!(engine.commit(call, performed).await, Committed::Lost);
    engine.shutdown().await;

    let (in_doubt, leased): (bool, bool) =
        sqlx::query_as("select in_doubt, lease_owner is not null from engine.saga where id = $1")
            .bind(saga_id.0)
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!((in_doubt, leased), (true, false));
    let test = TestEngine::build(Engine::builder(pool).register(fixtures::full_saga(&world)));
    test.engine.wait(saga_id, WAIT_TIMEOUT).await.unwrap().unwrap();
    let sent = world.sent.lock().unwrap().clone();
    assert_eq!((sent.len(), &sent[0]), (2, &sent[1]), "made again with the same key");
    let history = test.engine.history(saga_id).await.unwrap().unwrap();
    assert!(
        history.iter().any(|entry| entry.error.iter().any(|line| line.contains("given up"))),
        "{history:?}"
    );
    assert_eq!(test.engine.verify_histories(10).await.unwrap(), []);
    test.close().await;
}
