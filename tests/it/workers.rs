//! Sagas run by apalis workers, through stops, lost connections and an unreliable Redis.

mod fixtures;
mod redis;

use engine::HistoryOutcome;
use tokio::time::Instant;
use workers::{QueueOptions, RedisOptions, Workers, WorkersError};

use crate::support::as_owner;
use fixtures::{DEADLINE, Parcel, QUEUE, TestQueue, Worker, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_saga_with_transaction_and_call_steps_runs_through_apalis() {
    let queue = TestQueue::new().await;
    let worker = queue.worker(QueueOptions::named(QUEUE), None).await;
    let parcel = worker.send(Parcel::steady()).await;
    queue.wait_for_all_to_complete().await;
    queue.assert_each_step_took_effect_once().await;
    let history = worker.engine.history(parcel).await.unwrap().unwrap();
    let steps: Vec<_> = history.iter().map(|entry| (entry.step.as_str(), entry.outcome)).collect();
    let done = HistoryOutcome::Done;
    assert_eq!(steps, [("pack", done), ("ship", done), ("file", done)]);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_costs_its_saga_one_attempt_and_does_not_affect_others() {
    let queue = TestQueue::new().await;
    let worker = queue.worker(QueueOptions::named(QUEUE), None).await;
    let mut steady = Vec::new();
    for _ in 0..50 {
        steady.push(worker.send(Parcel::steady()).await);
    }
    let in_call = worker.send(Parcel { panics_at: Some("ship".into()) }).await;
    let in_transaction = worker.send(Parcel { panics_at: Some("file".into()) }).await;
    queue.wait_for_all_to_complete().await;
    queue.assert_each_step_took_effect_once().await;
    for (saga, step) in [(in_call, "ship"), (in_transaction, "file")] {
        let history = worker.engine.history(saga).await.unwrap().unwrap();
        let attempts: Vec<_> = history.iter().filter(|entry| entry.step == step).collect();
        assert_eq!(attempts.len(), 2, "{attempts:?}");
        assert_eq!(attempts[0].outcome, HistoryOutcome::Retry);
        assert!(attempts[0].error.iter().any(|error| error.contains("panicked")), "{:?}", attempts[0].error);
        assert_eq!(attempts[1].outcome, HistoryOutcome::Done);
    }
    for saga in steady {
        let history = worker.engine.history(saga).await.unwrap().unwrap();
        assert!(history.iter().all(|entry| entry.attempt == 1), "{history:?}");
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_under_load_leaves_no_lease_behind() {
    let queue = TestQueue::new().await;
    let options = QueueOptions { concurrency: 100, call_concurrency: 8, ..QueueOptions::named(QUEUE) };
    let worker = queue.worker(options, None).await;
    worker.send_many(2_000).await;
    queue.wait_until_ended(50).await;
    let engine = worker.stop().await;
    assert_eq!(engine.claim_count(), 0);
    let leased: i64 = sqlx::query_scalar("select count(*) from engine.saga where lease_owner is not null")
        .fetch_one(&queue.pool)
        .await
        .unwrap();
    assert_eq!(leased, 0);
    let waiting: i64 =
        sqlx::query_scalar("select count(*) from engine.saga where due_at > now() + interval '1 s'")
            .fetch_one(&queue.pool)
            .await
            .unwrap();
    assert_eq!(waiting, 0, "what was released is due at once");
    let left: i64 = sqlx::query_scalar("select count(*) from engine.saga where status = 'running'")
        .fetch_one(&queue.pool)
        .await
        .unwrap();
    assert!(left > 0, "the stop came before the end");

    let next = queue.worker(QueueOptions::named(QUEUE), None).await;
    queue.wait_for_all_to_complete().await;
    queue.assert_each_step_took_effect_once().await;
    next.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_abandons_calls_beyond_the_deadline_and_releases_waiting_jobs() {
    let queue = TestQueue::new().await;
    let options = QueueOptions { concurrency: 50, call_concurrency: 4, ..QueueOptions::named(QUEUE) };
    queue.calls.hang(true);
    let worker = queue.worker(options, None).await;
    worker.send_many(100).await;
    until("calls hang", async || (queue.calls.sum() == 4, queue.calls.sum())).await;
    let began = Instant::now();
    worker.stop().await;
    assert!(began.elapsed() >= DEADLINE);
    let (leased, in_doubt): (i64, i64) = sqlx::query_as(
        "select count(*) filter (where lease_owner is not null), count(*) filter (where in_doubt) from engine.saga \
         where due_at <= now()",
    )
    .fetch_one(&queue.pool)
    .await
    .unwrap();
    assert_eq!((leased, in_doubt), (0, 4));

    queue.calls.hang(false);
    let next = queue.worker(QueueOptions::named(QUEUE), None).await;
    queue.wait_for_all_to_complete().await;
    queue.assert_each_step_took_effect_once().await;
    assert_eq!(queue.calls.sum(), 104, "only calls in progress are repeated");
    next.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_survive_terminated_connections() {
    let queue = TestQueue::new().await;
    let worker = queue.worker(QueueOptions::named(QUEUE), None).await;
    terminate_connections_while_working(&queue, &worker).await;
    worker.stop().await;
}

async fn terminate_connections_while_working(queue: &TestQueue, worker: &Worker) {
    let mut sent = 0;
    for _ in 0..5 {
        sent += worker.send_many_whatever_happens(100).await;
        let others = "select pg_terminate_backend(pid) from pg_stat_activity
                      where datname = current_database() and pid <> pg_backend_pid()";
        as_owner(&queue.pool, others).await.unwrap();
        let ended = i64::try_from(sent / 2).unwrap();
        queue.wait_until_ended(ended).await;
    }
    queue.wait_for_all_to_complete().await;
    queue.assert_each_step_took_effect_once().await;
    worker.assert_runs();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_share_the_load_and_every_step_runs_once() {
    let queue = TestQueue::new().await;
    let options = QueueOptions { concurrency: 8, call_concurrency: 8, ..QueueOptions::named(QUEUE) };
    queue.calls.hang(true);
    let first = queue.worker(options.clone(), None).await;
    let second = queue.worker(options, None).await;
    first.send_many(300).await;
    // While no call is answered, neither worker can claim all sagas.
    until("both hold sagas", async || {
        let owners: i64 = sqlx::query_scalar("select count(distinct lease_owner) from engine.saga")
            .fetch_one(&queue.pool)
            .await
            .unwrap();
        (owners == 2, owners)
    })
    .await;
    queue.calls.hang(false);
    queue.wait_for_all_to_complete().await;
    queue.assert_each_step_took_effect_once().await;
    assert_eq!(queue.calls.most(), 1, "no call was made twice");
    assert_eq!(queue.workers_at("ship").await, 2);
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn options_that_contradict_themselves_are_refused() {
    let queue = TestQueue::new().await;
    let engine = queue.engine();
    let builder = || Workers::builder(engine.clone()).queue(QueueOptions::named(QUEUE));
    let twice = builder().queue(QueueOptions::named(QUEUE)).build();
    assert!(matches!(twice, Err(WorkersError::QueueTwice(_))));
    let idle = builder().queue(QueueOptions { call_concurrency: 0, ..QueueOptions::named("other") }).build();
    assert!(matches!(idle, Err(WorkersError::NoConcurrency(_))));
    let url = "http://user:secret@localhost";
    let options = RedisOptions::for_queues(url, [QUEUE]);
    assert!(!format!("{options:?}").contains("secret"));
    let error = builder().redis(Some(options)).build().unwrap_err();
    assert!(matches!(error, WorkersError::BadRedisUrl(_)));
    assert!(!format!("{error:?}").contains("secret"));
}
