//! What an outage, a stop or a half-known process leaves behind: claims, doubts and requests are not lost with it.

use std::time::{Duration, Instant};

use engine::{
    CancelOutcome, Committed, DeadJobFilter, Engine, HistoryOutcome, Page, Pause, Status,
    testing::skip_waiting,
};

use super::{
    claims::next,
    fixtures::{self, ExternalWorld, FULL, PLAIN, TestEngine, TestInput},
};

use crate::support::WAIT_TIMEOUT;

const ALL: Page = Page { after: None, limit: 100 };

/// Starts a saga and brings it to its call.
async fn at_the_call(engine: &Engine, feed: &mut engine::Feed) -> (engine::SagaId, engine::Job) {
    let started = engine.start(FULL.with(&TestInput::default())).await.unwrap();
    let job = next(feed).await;
    let performed = engine.perform(&job).await;
    assert_eq!(engine.commit(job, performed).await, Committed::Moved);
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

    // Every statement fails until the lease has ended; then the claims, which come round sooner than the keeper, are first.
    sqlx::query("alter table engine.saga rename to saga_away").execute(&pool).await.unwrap();
    let lapsed = "select bool_and(due_at < now() - interval '300 ms') from engine.saga_away";
    while !sqlx::query_scalar::<_, bool>(lapsed).fetch_one(&pool).await.unwrap() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    sqlx::query("alter table engine.saga_away rename to saga").execute(&pool).await.unwrap();

    assert_eq!(engine.commit(call, performed).await, Committed::Moved);
    let history = engine.history(saga_id).await.unwrap().unwrap();
    let lost = history.iter().filter(|entry| entry.outcome == HistoryOutcome::Lost).count();
    assert_eq!(lost, 0, "{history:?}");
    feed.close();
    engine.shutdown().await;
}

#[tokio::test]
async fn suspects_are_run_one_after_the_other_without_waiting_for_a_poll() {
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
async fn a_stranger_that_takes_over_a_call_keeps_its_doubt_and_the_cancel_asked_for() {
    let (_database, pool) = fixtures::database().await;
    let world = ExternalWorld::default();
    let knows = Engine::builder(pool.clone()).register(fixtures::full_saga(&world)).build().unwrap();
    let mut feed = knows.feed("default", 1);
    let (saga_id, call) = at_the_call(&knows, &mut feed).await;
    let _answer_that_is_never_committed = knows.perform(&call).await;
    let answer = knows.cancel(saga_id, "ada", "too slow").await.unwrap();
    assert_eq!(answer, CancelOutcome::Requested);

    skip_waiting(&pool, Some(knows.worker())).await.unwrap();
    let stranger = TestEngine::build(Engine::builder(pool.clone()).orphan_grace(Duration::ZERO));
    let ending = stranger.engine.wait(saga_id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(ending.status, Status::Dead);
    stranger.close().await;
    drop(call);
    feed.close();
    feed.closed().await;

    let job = knows.dead_jobs(&DeadJobFilter::default(), ALL).await.unwrap().remove(0);
    let test = TestEngine::start(knows);
    test.engine.retry_dead_job(job.dead_job_id, "bob", "deployed it").await.unwrap();
    let ending = test.engine.wait(saga_id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(ending.status, Status::Compensated, "the cancel was kept");
    let sent = world.sent.lock().unwrap().clone();
    assert_eq!(sent.len(), 1);
    assert_eq!(*world.taken_back.lock().unwrap(), sent, "and so was the doubt");
    assert_eq!(test.engine.verify_histories(10).await.unwrap(), []);
    test.close().await;
}

#[tokio::test]
async fn a_process_leaves_sagas_that_it_does_not_know_to_those_that_do() {
    let (_database, pool) = fixtures::database().await;
    let stranger = TestEngine::build(Engine::builder(pool.clone()).poll(Duration::from_millis(5)));
    let caller = Engine::builder(pool.clone()).register(fixtures::plain_saga()).build().unwrap();
    let started = caller.start(PLAIN.with(&TestInput::default())).await.unwrap();
    // The stranger has looked at the queue since: it claims what it is asked to by id no sooner than what it polls.
    assert_eq!(stranger.engine.claim_ids(&[started.saga_id]).await.unwrap(), 0);
    let saga = caller.saga(started.saga_id).await.unwrap().unwrap();
    assert_eq!((saga.epoch, saga.attempt), (0, 0));
    let test = TestEngine::start(caller);
    let ending = test.engine.wait(started.saga_id, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(ending.status, Status::Completed);
    stranger.close().await;
    test.close().await;
}

#[tokio::test]
async fn being_overdue_does_not_mean_that_nobody_knows_a_saga() {
    let (_database, pool) = fixtures::database().await;
    let patience = Duration::from_secs(1);
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
    // As after an outage of all workers, when an old one is the first to come back.
    let first = overdue().await;
    let opened = Instant::now();
    let stranger = TestEngine::build(Engine::builder(pool.clone()).orphan_grace(patience));
    let ending = stranger.engine.wait(first, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(ending.status, Status::Dead);
    assert!(opened.elapsed() >= patience, "those who know it had that time to come");

    // As after a pause.
    let pause = Pause { actor: "ada", reason: "a pause" };
    let mut conn = pool.acquire().await.unwrap();
    caller.set_queue_in(&mut conn, "default", Some(&pause)).await.unwrap();
    stranger.engine.queue_changed("default");
    let second = overdue().await;
    let resumed = Instant::now();
    caller.set_queue_in(&mut conn, "default", None).await.unwrap();
    stranger.engine.queue_changed("default");
    let ending = stranger.engine.wait(second, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(ending.status, Status::Dead);
    assert!(resumed.elapsed() >= patience, "a pause is nobody's absence");
    stranger.close().await;
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
