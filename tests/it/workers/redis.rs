//! Due hints through Redis, and what happens while Redis is down.

use std::time::Duration;

use breakers::{Breaker, BreakerSettings, BreakerState, Dependency};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};
use workers::{QueueOptions, RedisState};

use super::{
    fixtures::{QUEUE, TestQueue, Worker, until},
    terminate_connections_while_working,
};
use crate::support::RedisServer;

#[tokio::test(flavor = "multi_thread")]
async fn workers_survive_terminated_connections_with_redis_too() {
    let queue = TestQueue::new().await;
    let redis = RedisServer::start().await.unwrap();
    let worker = queue.worker(QueueOptions::named(QUEUE), Some(&redis)).await;
    worker.reached(RedisState::Up).await;
    terminate_connections_while_working(&queue, &worker).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn due_hints_pass_through_redis_from_the_starter_to_the_worker() {
    let queue = TestQueue::new().await;
    let redis = RedisServer::start().await.unwrap();
    let starter = queue.starter(&redis).await;
    starter.reached(RedisState::Up).await;
    starter.send_many(40).await;
    let waiting = async || {
        ask(&redis, &format!("ZCARD sagaline:{QUEUE}:scheduled")).await
            + ask(&redis, &format!("LLEN sagaline:{QUEUE}:active")).await
    };
    until("the ids are in Redis", async || (waiting().await == 40, waiting().await)).await;
    let worker = queue.worker(QueueOptions::named(QUEUE), Some(&redis)).await;
    until("the ids are received", async || (waiting().await == 0, ())).await;
    queue.wait_for_all_to_complete().await;
    queue.assert_each_step_took_effect_once().await;
    until("Redis keeps nothing of them", async || {
        let kept = ask(&redis, &format!("HLEN sagaline:{QUEUE}:data")).await
            + ask(&redis, &format!("SCARD sagaline:{QUEUE}:done")).await;
        (kept == 0, kept)
    })
    .await;
    starter.stop().await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flushed_and_killed_redis_loses_no_saga() {
    let queue = TestQueue::new().await;
    let mut redis = RedisServer::start().await.unwrap();
    let starter = queue.starter(&redis).await;
    let worker = queue.worker(QueueOptions::named(QUEUE), Some(&redis)).await;
    worker.reached(RedisState::Up).await;
    starter.reached(RedisState::Up).await;

    starter.send_many(100).await;
    tell(&redis, "FLUSHALL").await;
    starter.send_many(100).await;
    queue.wait_until_ended(100).await;

    redis.kill();
    worker.reached(RedisState::Down).await;
    starter.send_many(100).await;
    worker.send_many(100).await;
    queue.wait_for_all_to_complete().await;

    redis.restart().await.unwrap();
    worker.reached(RedisState::Up).await;
    starter.reached(RedisState::Up).await;
    starter.send_many(100).await;
    queue.wait_for_all_to_complete().await;
    queue.assert_each_step_took_effect_once().await;
    worker.assert_runs();
    starter.stop().await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_redis_opens_its_breaker_and_is_found_again() {
    let queue = TestQueue::new().await;
    let mut redis = RedisServer::start().await.unwrap();
    redis.kill();
    let settings =
        BreakerSettings { failures: 2, open_duration: Duration::from_millis(50), successes_to_close: 1 };
    let breaker = Breaker::new(Dependency::Redis, settings);
    let engine = queue.engine_on(queue.database.pool().await);
    let worker = Worker::run(engine, |builder| builder.redis_breaker(breaker.clone()), Some(&redis));
    until("the breaker opens, and its probes fail", async || {
        let view = breaker.view();
        (view.failures >= 4 && view.state != BreakerState::Closed, view)
    })
    .await;
    redis.restart().await.unwrap();
    worker.reached(RedisState::Up).await;
    assert_eq!(breaker.state(), BreakerState::Closed);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_start_without_redis_and_connect_to_it_later() {
    let queue = TestQueue::new().await;
    let mut redis = RedisServer::start().await.unwrap();
    redis.kill();
    let worker = queue.worker(QueueOptions::named(QUEUE), Some(&redis)).await;
    worker.send_many(50).await;
    queue.wait_for_all_to_complete().await;
    assert_eq!(worker.redis.as_ref().unwrap().state(), RedisState::Down);
    redis.restart().await.unwrap();
    worker.reached(RedisState::Up).await;
    worker.send_many(50).await;
    queue.wait_for_all_to_complete().await;
    worker.stop().await;
}

/// Reads a number from Redis.
async fn ask(redis: &RedisServer, command: &str) -> u64 {
    let line = tell(redis, command).await;
    let number = line.strip_prefix(':').map(str::parse);
    number.unwrap_or_else(|| panic!("{command}: {line}")).unwrap()
}

async fn tell(redis: &RedisServer, command: &str) -> String {
    let url = redis.url();
    let mut stream = TcpStream::connect(url.strip_prefix("redis://").unwrap()).await.unwrap();
    stream.write_all(format!("{command}\r\n").as_bytes()).await.unwrap();
    let mut line = String::new();
    BufReader::new(&mut stream).read_line(&mut line).await.unwrap();
    line.trim_end().to_owned()
}
