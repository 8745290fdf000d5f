//! The Redis stream when what it has and what the database has went different ways.

use std::collections::BTreeMap;

use shop::events;

use super::{
    event_targets::{NAME, connect, entries},
    test_cluster::{TestCluster, at_least, ends_in_order, until},
};
use crate::support::RedisServer;

/// 0 as well while the consumer is not registered yet.
const POSITION: &str =
    "select coalesce((select last_event_id from shop.event_consumer where name = 'redis'), 0)";

async fn test(redis: &RedisServer) -> TestCluster {
    let mut test = TestCluster::open().await;
    test.set("REDIS_URL", &redis.url());
    test
}

/// Tells events and gives them their numbers, whether a worker runs or not.
async fn tell(test: &TestCluster, key: &str, count: i32) {
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
        events::sequence(&test.pool, 10_000).await.unwrap();
        let left = test.count("select count(*) from shop.outbox").await;
        if left == 0 { Ok(()) } else { Err(left) }
    })
    .await;
}

/// The ids of the events in the stream, as they stand there.
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
async fn a_stream_that_is_ahead_of_a_database_that_was_put_back_gets_what_is_told_since() {
    let redis = RedisServer::start().await.unwrap();
    let test = test(&redis).await;
    let worker = test.work().await;
    tell(&test, "kept", 10).await;
    tell(&test, "lost", 10).await;
    at_least("events", 20, || test.count(POSITION)).await;
    ends_in_order(worker).await;
    test.arrange(
        "delete from shop.event where event_id > 10;
             update shop.event_log set last_event_id = 10;
             update shop.event_consumer set last_event_id = 10;",
    )
    .await;
    // The new log has long overtaken the stream when a worker looks.
    tell(&test, "new", 30).await;
    let worker = test.work().await;
    at_least("events", 40, || test.count(POSITION)).await;
    ends_in_order(worker).await;

    let mut client = connect(&redis.url()).await.unwrap();
    let mut range = redis::cmd("XRANGE");
    range.arg(NAME).arg("-").arg("+");
    let found: Vec<(String, BTreeMap<String, String>)> = range.query_async(&mut client).await.unwrap();
    let new = found.iter().filter(|(_, fields)| fields["key"] == "new");
    let new: Vec<i64> = new.map(|(_, fields)| fields["event_id"].parse().unwrap()).collect();
    assert_eq!(new, (11..=40).collect::<Vec<_>>());
}

#[tokio::test]
async fn events_whose_arrival_was_not_noted_do_not_come_again() {
    let redis = RedisServer::start().await.unwrap();
    let test = test(&redis).await;
    let worker = test.work().await;
    tell(&test, "a", 10).await;
    at_least("events", 10, || test.count(POSITION)).await;
    ends_in_order(worker).await;
    test.arrange("update shop.event_consumer set last_event_id = 4").await;
    let worker = test.work().await;
    tell(&test, "b", 1).await;
    at_least("events", 11, || test.count(POSITION)).await;
    assert_eq!(ids(&redis).await, (1..=11).collect::<Vec<_>>());
    ends_in_order(worker).await;
}

#[tokio::test]
async fn a_stream_that_was_wiped_has_everything_again_after_a_foreign_entry_and_after_a_replay() {
    let redis = RedisServer::start().await.unwrap();
    let test = test(&redis).await;
    let worker = test.work().await;
    let all: Vec<i64> = (1..=15).collect();
    tell(&test, "a", 10).await;
    until_it_has(&redis, &all[..10]).await;
    // It is later than our series, which therefore ends; nothing comes again by that.
    command(&redis, &["XADD", NAME, "*", "stray", "yes"]).await;
    tell(&test, "b", 5).await;
    until_it_has(&redis, &all).await;
    command(&redis, &["FLUSHALL"]).await;
    until_it_has(&redis, &all).await;

    let mut replay = test.start(&["events", "replay", "--consumer", "redis", "--from", "12"], &[]);
    assert!(replay.wait().await.success(), "{}", replay.output());
    let again: Vec<i64> = all.iter().copied().chain(12..=15).collect();
    until_it_has(&redis, &again).await;
    command(&redis, &["FLUSHALL"]).await;
    until_it_has(&redis, &all).await;

    // Wiped, and somebody else's entry there before a worker looks.
    let mut client = connect(&redis.url()).await.unwrap();
    let mut both = redis::pipe();
    both.atomic().cmd("FLUSHALL").ignore();
    both.cmd("XADD").arg(NAME).arg("*").arg("stray").arg("yes").ignore();
    both.query_async::<()>(&mut client).await.unwrap();
    until_it_has(&redis, &all).await;
    ends_in_order(worker).await;
}

#[tokio::test]
async fn the_stream_is_cut_and_the_log_is_pruned_as_the_variables_say() {
    let redis = RedisServer::start().await.unwrap();
    let mut test = test(&redis).await;
    test.set("EVENTS_MAXLEN", "100");
    test.set("EVENTS_RETENTION", "1s");
    let worker = test.work().await;
    tell(&test, "a", 1_000).await;
    at_least("events", 1_000, || test.count(POSITION)).await;
    let kept = ids(&redis).await;
    // Redis cuts by the hundred or so.
    assert!((100..=300).contains(&kept.len()), "{} entries", kept.len());
    assert_eq!(kept.last(), Some(&1_000));
    until("old events to go", async || {
        let left = test.count("select count(*) from shop.event").await;
        if left == 0 { Ok(()) } else { Err(left) }
    })
    .await;
    ends_in_order(worker).await;
}
