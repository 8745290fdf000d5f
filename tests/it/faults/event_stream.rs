//! The Redis stream when its content and the database have diverged.

use std::collections::BTreeMap;

use shop::events::{self, LowWaterMarks};

use super::{
    event_targets::{NAME, connect, entries},
    test_cluster::{TestCluster, at_least, stops_cleanly, until},
};
use crate::support::RedisServer;

/// Also 0 while the consumer is not registered.
const POSITION: &str =
    "select coalesce((select last_event_id from shop.event_consumer where name = 'redis'), 0)";

async fn test(redis: &RedisServer) -> TestCluster {
    let mut test = TestCluster::open().await;
    test.set("REDIS_URL", &redis.url());
    test
}

/// Appends events and sequences them, whether or not a worker runs.
async fn append_events(test: &TestCluster, key: &str, count: i32) {
    sqlx::query(
        "insert into shop.outbox (routing_key, key, payload)
         select 'product.updated', $1, '{}' from generate_series(1, $2)",
    )
    .bind(key)
    .bind(count)
    .execute(&test.pool)
    .await
    .unwrap();
    until("the outbox to be empty", async || {
        events::sequence(&test.pool, &LowWaterMarks::default(), 10_000).await.unwrap();
        let left = test.count("select count(*) from shop.outbox").await;
        if left == 0 { Ok(()) } else { Err(left) }
    })
    .await;
}

/// The ids of the events in the stream, in stream order.
async fn ids(redis: &RedisServer) -> Vec<i64> {
    entries(&redis.url(), "").await.unwrap_or_default().into_iter().map(|(_, id)| id).collect()
}

async fn until_it_has(redis: &RedisServer, expected: &[i64]) {
    until("the stream to be filled", async || {
        let ids = ids(redis).await;
        if ids == expected { Ok(()) } else { Err(ids) }
    })
    .await;
}

async fn command(redis: &RedisServer, words: &[&str]) {
    let mut client = connect(&redis.url()).await.unwrap();
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]).query_async::<redis::Value>(&mut client).await.unwrap();
}

#[tokio::test]
async fn a_stream_ahead_of_a_restored_database_gets_the_events_since_the_restore() {
    let redis = RedisServer::start().await.unwrap();
    let test = test(&redis).await;
    let worker = test.work().await;
    append_events(&test, "kept", 10).await;
    append_events(&test, "lost", 10).await;
    at_least("events", 20, || test.count(POSITION)).await;
    stops_cleanly(worker).await;
    test.arrange(
        "delete from shop.event where event_id > 10;
             update shop.event_log set last_event_id = 10;
             update shop.event_consumer set last_event_id = 10;",
    )
    .await;
    // The new log has more events than the stream by the time a worker publishes.
    append_events(&test, "new", 30).await;
    let worker = test.work().await;
    at_least("events", 40, || test.count(POSITION)).await;
    stops_cleanly(worker).await;

    let mut client = connect(&redis.url()).await.unwrap();
    let mut range = redis::cmd("XRANGE");
    range.arg(NAME).arg("-").arg("+");
    let found: Vec<(String, BTreeMap<String, String>)> = range.query_async(&mut client).await.unwrap();
    let new = found.iter().filter(|(_, fields)| fields["key"] == "new");
    let new: Vec<i64> = new.map(|(_, fields)| fields["event_id"].parse().unwrap()).collect();
    assert_eq!(new, (11..=40).collect::<Vec<_>>());
}

#[tokio::test]
async fn events_whose_confirmation_was_lost_are_not_published_again() {
    let redis = RedisServer::start().await.unwrap();
    let test = test(&redis).await;
    let worker = test.work().await;
    append_events(&test, "a", 10).await;
    at_least("events", 10, || test.count(POSITION)).await;
    stops_cleanly(worker).await;
    test.arrange("update shop.event_consumer set last_event_id = 4").await;
    let worker = test.work().await;
    append_events(&test, "b", 1).await;
    at_least("events", 11, || test.count(POSITION)).await;
    assert_eq!(ids(&redis).await, (1..=11).collect::<Vec<_>>());
    stops_cleanly(worker).await;
}

#[tokio::test]
async fn a_flushed_stream_is_refilled_also_after_a_foreign_entry_and_a_replay() {
    let redis = RedisServer::start().await.unwrap();
    let test = test(&redis).await;
    let worker = test.work().await;
    let all: Vec<i64> = (1..=15).collect();
    append_events(&test, "a", 10).await;
    until_it_has(&redis, &all[..10]).await;
    // The foreign entry is later than our series, so the series ends; that alone repeats no event.
    command(&redis, &["XADD", NAME, "*", "stray", "yes"]).await;
    append_events(&test, "b", 5).await;
    until_it_has(&redis, &all).await;
    command(&redis, &["FLUSHALL"]).await;
    until_it_has(&redis, &all).await;

    let mut replay = test.start(&["events", "replay", "--consumer", "redis", "--from", "12"], &[]);
    assert!(replay.wait().await.success(), "{}", replay.output());
    let again: Vec<i64> = all.iter().copied().chain(12..=15).collect();
    until_it_has(&redis, &again).await;
    command(&redis, &["FLUSHALL"]).await;
    until_it_has(&redis, &all).await;

    // The stream is flushed and has a foreign entry before a worker publishes.
    let mut client = connect(&redis.url()).await.unwrap();
    let mut both = redis::pipe();
    both.atomic().cmd("FLUSHALL").ignore();
    both.cmd("XADD").arg(NAME).arg("*").arg("stray").arg("yes").ignore();
    both.query_async::<()>(&mut client).await.unwrap();
    until_it_has(&redis, &all).await;
    stops_cleanly(worker).await;
}

#[tokio::test]
async fn the_stream_is_trimmed_and_the_log_is_pruned_as_configured() {
    let redis = RedisServer::start().await.unwrap();
    let mut test = test(&redis).await;
    test.set("EVENTS_MAXLEN", "100");
    test.set("EVENTS_RETENTION", "1s");
    let worker = test.work().await;
    append_events(&test, "a", 1_000).await;
    at_least("events", 1_000, || test.count(POSITION)).await;
    let kept = ids(&redis).await;
    // Redis trims in units of about a hundred entries.
    assert!((100..=300).contains(&kept.len()), "{} entries", kept.len());
    assert_eq!(kept.last(), Some(&1_000));
    until("old events to go", async || {
        let left = test.count("select count(*) from shop.event").await;
        if left == 0 { Ok(()) } else { Err(left) }
    })
    .await;
    stops_cleanly(worker).await;
}
