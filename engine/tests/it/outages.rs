//! Outages, stops and processes that know only some definitions: claims, calls in doubt and requests for cancels
//! survive.

use std::time::{Duration, Instant};

use engine::{
    CancelOutcome, Committed, DeadJobFilter, Engine, HistoryOutcome, Page, Pause, Status,
    testing::expire_leases,
};

use super::{
    claims::next,
    fixtures::{self, ExternalWorld, FULL, PLAIN, TestEngine, TestInput},
};

use crate::support::WAIT_TIMEOUT;

const ALL: Page = Page { after: None, limit: 100 };

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
    sqlx::query("alter table engine.saga rename to saga_away").execute(&pool).await.unwrap();
    let lapsed = "select bool_and(due_at < now() - interval '300 ms') from engine.saga_away";
    while !sqlx::query_scalar::<_, bool>(lapsed).fetch_one(&pool).await.unwrap() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    sqlx::query("alter table engine.saga_away rename to saga").execute(&pool).await.unwrap();

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
             due_at = now() - interval '1 s'",
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
async fn a_process_that_dead_letters_an_unknown_call_keeps_it_in_doubt_and_its_cancel() {
    let (_database, pool) = fixtures::database().await;
    let world = ExternalWorld::default();
    let aware = Engine::builder(pool.clone()).register(fixtures::full_saga(&world)).build().unwrap();
    // The feed has one slot, and the job fills it, so the engine can't take over its own saga.
    let mut feed = aware.feed("default", 1);
    let (saga_id, call) = at_the_call(&aware, &mut feed).await;
    let _answer_that_is_never_committed = aware.perform(&call).await;
    let answer = aware.cancel(saga_id, "ada", "too slow").await.unwrap();
    assert_eq!(answer, CancelOutcome::Requested);

    expire_leases(&pool, aware.worker()).await.unwrap();
    let unaware = TestEngine::build(Engine::builder(pool.clone()).orphan_grace(Duration::ZERO));
    let ending = unaware.engine.wait(saga_id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(ending.status, Status::Dead);
    unaware.close().await;
    drop(call);
    feed.close();
    feed.closed().await;

    let job = aware.dead_jobs(&DeadJobFilter::default(), ALL).await.unwrap().remove(0);
    let test = TestEngine::start(aware);
    test.engine.retry_dead_job(job.dead_job_id, "bob", "deployed it").await.unwrap();
    let ending = test.engine.wait(saga_id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(ending.status, Status::Compensated, "the cancel is kept");
    let sent = world.sent.lock().unwrap().clone();
    assert_eq!(sent.len(), 1);
    assert_eq!(*world.taken_back.lock().unwrap(), sent, "the call is undone, because it is in doubt");
    assert_eq!(test.engine.verify_histories(10).await.unwrap(), []);
    test.close().await;
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
async fn an_overdue_saga_is_an_orphan_only_after_the_grace_period() {
    let (_database, pool) = fixtures::database().await;
    let grace = Duration::from_secs(1);
    let caller = Engine::builder(pool.clone()).register(fixtures::plain_saga()).build().unwrap();
    let overdue = async || {
        let started = caller.start(PLAIN.with(&TestInput::default())).await.unwrap();
        sqlx::query("update engine.saga set due_at = now() - interval '1 hour' where id = $1")
            .bind(started.saga_id.0)
            .execute(&pool)
            .await
            .unwrap();
        started.saga_id
    };
    // As after an outage of all workers, when an outdated process is the first to start again.
    let first = overdue().await;
    let opened = Instant::now();
    let unaware = TestEngine::build(Engine::builder(pool.clone()).orphan_grace(grace));
    let ending = unaware.engine.wait(first, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(ending.status, Status::Dead);
    assert!(opened.elapsed() >= grace, "processes that know it had that time to start");

    // As after a pause.
    let pause = Pause { actor: "ada", reason: "a pause" };
    let mut conn = pool.acquire().await.unwrap();
    caller.set_queue_in(&mut conn, "default", Some(&pause)).await.unwrap();
    unaware.engine.queue_changed("default");
    let second = overdue().await;
    let resumed = Instant::now();
    caller.set_queue_in(&mut conn, "default", None).await.unwrap();
    unaware.engine.queue_changed("default");
    let ending = unaware.engine.wait(second, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(ending.status, Status::Dead);
    assert!(resumed.elapsed() >= grace, "the time of a pause does not count");
    unaware.close().await;
    caller.shutdown().await;
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
