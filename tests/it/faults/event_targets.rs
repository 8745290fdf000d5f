//! Redis and RabbitMQ disappear and return under load: no event is lost, and no order waits for them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use lapin::{
    Channel, Connection, ConnectionProperties, ExchangeKind,
    options::{
        BasicAckOptions, BasicGetOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    },
    types::FieldTable,
};
use redis::aio::MultiplexedConnection;
use serde_json::Value;
use tokio::sync::watch;

use super::{
    load::Load,
    test_cluster::{TestCluster, at_least, stops_cleanly, until},
};
use crate::support::{RabbitServer, RedisServer, WAIT_TIMEOUT};

pub(super) const NAME: &str = "e-commerce.events";
/// An entry of a stream: its id, and its fields with their values.
pub(super) type Entry = (String, Vec<String>);
/// The number of all events, published or not.
const ALL_EVENTS: &str =
    "select (select count(*) from shop.outbox) + (select last_event_id from shop.event_log)";
const NUMBERED: &str = "select last_event_id from shop.event_log";

pub(super) async fn connect(url: &str) -> Result<MultiplexedConnection, redis::RedisError> {
    redis::Client::open(url)?.get_multiplexed_async_connection().await
}

/// The stream's entries after a given one: entry id and event id.
pub(super) async fn entries(url: &str, after: &str) -> Result<Vec<(String, i64)>, redis::RedisError> {
    entries_of(url, NAME, after).await
}

async fn entries_of(url: &str, stream: &str, after: &str) -> Result<Vec<(String, i64)>, redis::RedisError> {
    let mut redis = connect(url).await?;
    let start = if after.is_empty() { "-".to_owned() } else { format!("({after}") };
    let mut range = redis::cmd("XRANGE");
    let found: Vec<(String, BTreeMap<String, String>)> =
        range.arg(stream).arg(start).arg("+").query_async(&mut redis).await?;
    let event_id = |fields: &BTreeMap<String, String>| fields.get("event_id")?.parse().ok();
    Ok(found.iter().filter_map(|(entry, fields)| Some((entry.clone(), event_id(fields)?))).collect())
}

/// Follows the stream by its entry ids as a Redis client does, reconnecting when Redis is down. Returns the events up
/// to the last one, which is made known during the test.
async fn follow(url: String, last: watch::Receiver<Option<i64>>) -> Vec<i64> {
    let (mut after, mut seen, begun) = (String::new(), Vec::new(), Instant::now());
    loop {
        let appended = *last.borrow();
        if appended.is_some() && seen.last().copied() == appended {
            return seen;
        }
        assert!(begun.elapsed() < WAIT_TIMEOUT * 3, "{} of {appended:?} events were read", seen.len());
        // Redis may be down.
        for (entry, event_id) in entries(&url, &after).await.unwrap_or_default() {
            after = entry;
            seen.push(event_id);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Creates a consumer group that starts with the first entry, even if the stream does not exist yet.
pub(super) async fn make_group(redis: &mut MultiplexedConnection, name: &str) {
    let mut group = redis::cmd("XGROUP");
    group.arg("CREATE").arg(NAME).arg(name).arg("0").arg("MKSTREAM");
    group.query_async::<()>(redis).await.unwrap();
}

/// Reads the entries that no member of a group has got yet.
pub(super) async fn read_group(redis: &mut MultiplexedConnection, name: &str) -> Vec<Entry> {
    let mut read = redis::cmd("XREADGROUP");
    read.arg("GROUP").arg(name).arg("me").arg("COUNT").arg(10_000).arg("STREAMS").arg(NAME).arg(">");
    let streams: Option<Vec<(String, Vec<Entry>)>> = read.query_async(redis).await.unwrap();
    streams.unwrap_or_default().into_iter().flat_map(|(_, entries)| entries).collect()
}

pub(super) fn metric(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[tokio::test]
async fn a_redis_flushed_and_killed_under_load_gets_every_event_once() {
    let mut redis = RedisServer::start().await.unwrap();
    let mut test = TestCluster::open().await;
    test.set("REDIS_URL", &redis.url());
    // A foreign entry, with an id higher than any of ours.
    let mut client = connect(&redis.url()).await.unwrap();
    let mut foreign = redis::cmd("XADD");
    foreign.arg(NAME).arg("99999999999999-0").arg("stray").arg("yes");
    foreign.query_async::<String>(&mut client).await.unwrap();

    let (last, known) = watch::channel(None);
    let following = tokio::spawn(follow(redis.url(), known));
    let served = test.serve().await;
    let (first, mut second) = (test.work().await, test.work().await);
    served.client.add_product("TEA-1", 10_000).await;
    let faults = async {
        at_least("events", 50, || test.count(NUMBERED)).await;
        redis::cmd("FLUSHALL").query_async::<()>(&mut client).await.unwrap();
        at_least("events", 150, || test.count(NUMBERED)).await;
        second.kill9().await;
        redis.kill();
        at_least("events while Redis is down", 250, || test.count(NUMBERED)).await;
        redis.restart().await.unwrap();
        test.work().await
    };
    let (_, third) = tokio::join!(Load::start(&served.client, "TEA-1", 90).all(), faults);
    test.wait_until_no_saga_is_active().await;
    let appended = test.count(ALL_EVENTS).await;
    assert!(appended > 250, "{appended}");
    last.send_replace(Some(appended));
    let seen = following.await.unwrap();
    assert_eq!(seen, (1..=appended).collect::<Vec<_>>(), "a continuous reader got each event once, in order");
    let filled: Vec<i64> = entries(&redis.url(), "").await.unwrap().into_iter().map(|(_, id)| id).collect();
    assert_eq!(filled, seen, "what was wiped is there again");
    let caught_up = r#"sagaline_outbox_lag_events{consumer="redis"}"#;
    until("the lag to be appended as gone", async || {
        let lag = metric(&served.client.text("/metrics").await, caught_up);
        if lag == Some(0.0) { Ok(()) } else { Err(lag) }
    })
    .await;

    // As docs/events.md describes.
    let mut client = connect(&redis.url()).await.unwrap();
    make_group(&mut client, "billing").await;
    let replay = ["events", "replay", "--consumer", "redis", "--from", "11"];
    let mut replayed = test.start(&replay, &[]);
    assert!(replayed.wait().await.success(), "{}", replayed.output());
    let again = i64::try_from(seen.len()).unwrap() + appended - 10;
    until("events to be published again", async || {
        let length = entries(&redis.url(), "").await.unwrap().len();
        if i64::try_from(length).unwrap() == again { Ok(()) } else { Err(length) }
    })
    .await;
    let both: Vec<i64> = entries(&redis.url(), "").await.unwrap().into_iter().map(|(_, id)| id).collect();
    assert_eq!(both, (1..=appended).chain(11..=appended).collect::<Vec<_>>());
    assert_eq!(read_group(&mut client, "billing").await.len(), both.len());

    let mut listed = test.start(&["events", "consumers"], &[]);
    assert!(listed.wait().await.success());
    assert!(listed.output().contains("redis"), "{}", listed.output());
    for process in [first, third] {
        stops_cleanly(process).await;
    }
    test.assert_all_well().await;
}

#[tokio::test]
async fn a_redis_stream_keeps_about_the_configured_number_of_events() {
    let redis = RedisServer::start().await.unwrap();
    let mut test = TestCluster::open().await;
    test.set("REDIS_URL", &redis.url());
    test.set("EVENTS_MAXLEN", "100");
    let (served, worker) = (test.serve().await, test.work().await);
    let items: Vec<_> = (0..900)
        .map(|nth| {
            serde_json::json!({
                "sku": format!("TEA-{nth}"), "name": "Tea", "category": "tea", "price": 1290, "currency": "EUR",
                "initial_stock": 5, "low_stock_threshold": 0,
            })
        })
        .collect();
    served
        .client
        .post_until_accepted("/api/products/bulk", "stock", &serde_json::json!({"items": items}))
        .await;
    at_least("all to be published", 900, || {
        test.count("select coalesce(max(last_event_id), 0) from shop.event_consumer where name = 'redis'")
    })
    .await;
    // Redis trims by whole nodes, which hold a hundred entries each.
    let kept = entries(&redis.url(), "").await.unwrap();
    assert!((100..=300).contains(&kept.len()), "{} are left", kept.len());
    assert!(kept.last().unwrap().1 >= 900, "the newest are kept");
    for process in [worker, served.process] {
        stops_cleanly(process).await;
    }
    test.assert_all_well().await;
}

pub(super) async fn channel(rabbit: &RabbitServer) -> (Connection, Channel) {
    let connection = Connection::connect(&rabbit.url(), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

/// Declares durable queues, each bound to one of the patterns.
pub(super) async fn bind(rabbit: &RabbitServer, patterns: &[&str]) {
    let (_connection, channel) = channel(rabbit).await;
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(NAME.into(), ExchangeKind::Topic, durable, FieldTable::default()).await.unwrap();
    for pattern in patterns {
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare((*pattern).into(), durable, FieldTable::default()).await.unwrap();
        let bind = QueueBindOptions::default();
        channel
            .queue_bind((*pattern).into(), NAME.into(), (*pattern).into(), bind, FieldTable::default())
            .await
            .unwrap();
    }
}

/// Reads all messages of a queue: message id, routing key, payload, and whether it is persistent.
pub(super) async fn drain(rabbit: &RabbitServer, queue: &str) -> Vec<(i64, String, Value)> {
    let (_connection, channel) = channel(rabbit).await;
    let mut got = Vec::new();
    while let Some(message) = channel.basic_get(queue.into(), BasicGetOptions::default()).await.unwrap() {
        let properties = &message.properties;
        assert_eq!(*properties.delivery_mode(), Some(2));
        let id = properties.message_id().as_ref().unwrap().as_str().parse().unwrap();
        let payload = serde_json::from_slice(&message.data).unwrap();
        got.push((id, message.routing_key.as_str().to_owned(), payload));
        message.ack(BasicAckOptions::default()).await.unwrap();
    }
    got
}

#[tokio::test]
async fn a_rabbitmq_killed_under_load_gets_every_event_and_delays_no_order() {
    let redis = RedisServer::start().await.unwrap();
    let mut rabbit = RabbitServer::start().await.unwrap();
    let mut test = TestCluster::open().await;
    test.set("REDIS_URL", &redis.url());
    test.set("AMQP_URL", &rabbit.url());
    bind(&rabbit, &["#", "order.*"]).await;

    let served = test.serve().await;
    let workers = [test.work().await, test.work().await];
    served.client.add_product("TEA-1", 10_000).await;
    let fault = async {
        at_least("events", 100, || test.count(NUMBERED)).await;
        rabbit.kill().await;
        // Whatever the load did in the meantime, these events are appended while RabbitMQ is down.
        served.client.place("late@example.com", "TEA-1", 1).await;
    };
    let (_, ()) = tokio::join!(Load::start(&served.client, "TEA-1", 72).all(), fault);
    test.wait_until_no_saga_is_active().await;
    let appended = test.count(ALL_EVENTS).await;
    // RabbitMQ is down and delays nothing: orders are placed, and Redis has every event.
    let seen = follow(redis.url(), watch::channel(Some(appended)).1).await;
    assert_eq!(seen, (1..=appended).collect::<Vec<_>>());
    let metrics = served.client.text("/metrics").await;
    let lag = metric(&metrics, r#"sagaline_outbox_lag_events{consumer="amqp"}"#).unwrap();
    assert!(lag > 0.0, "{lag}");

    rabbit.restart().await.unwrap();
    let position = "select last_event_id from shop.event_consumer where name = 'amqp'";
    at_least("RabbitMQ to have every event", appended, || test.count(position)).await;
    let all = drain(&rabbit, "#").await;
    let ids: Vec<i64> = all.iter().map(|(id, ..)| *id).collect();
    // Events may be repeated, but only after they came in order: a client that drops every id that is not higher than
    // all before has each once.
    let mut highest = 0;
    let is_new = |id: &i64| {
        let before = highest;
        highest = highest.max(*id);
        *id > before
    };
    let once: Vec<i64> = ids.iter().copied().filter(is_new).collect();
    assert_eq!(once, (1..=appended).collect::<Vec<_>>());
    let orders: BTreeSet<i64> =
        all.iter().filter(|(_, key, _)| key.starts_with("order.")).map(|(id, ..)| *id).collect();
    let of_orders = drain(&rabbit, "order.*").await;
    assert_eq!(of_orders.iter().map(|(id, ..)| *id).collect::<BTreeSet<_>>(), orders);
    assert!(of_orders.iter().all(|(_, _, payload)| payload["order_id"].is_string()));
    for process in workers {
        stops_cleanly(process).await;
    }
    test.assert_all_well().await;
}

#[tokio::test]
async fn two_shops_with_prefixes_share_a_redis() {
    let redis = RedisServer::start().await.unwrap();
    for prefix in ["one", "two"] {
        let mut test = TestCluster::open().await;
        test.set("REDIS_URL", &redis.url());
        test.set("REDIS_PREFIX", prefix);
        test.set("RATE_LIMIT_PER_ADDRESS", "1000/h");
        let (served, worker) = (test.serve().await, test.work().await);
        served.client.add_product("TEA-1", 100).await;
        Load::start(&served.client, "TEA-1", 3).all().await;
        test.wait_until_no_saga_is_active().await;
        let all = test.count(ALL_EVENTS).await;
        let stream = format!("{prefix}:{NAME}");
        until("every event to be in the shop's own stream", async || {
            let found = entries_of(&redis.url(), &stream, "").await.unwrap();
            let found: Vec<i64> = found.into_iter().map(|(_, event_id)| event_id).collect();
            if found == (1..=all).collect::<Vec<_>>() { Ok(()) } else { Err(found) }
        })
        .await;
        stops_cleanly(worker).await;
    }
    let mut client = connect(&redis.url()).await.unwrap();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut client).await.unwrap();
    // The list of all queues is apalis's own; it has the names with their prefixes.
    let is_own = |key: &&String| key.starts_with("one:") || key.starts_with("two:");
    let strangers: Vec<_> =
        keys.iter().filter(|key| !is_own(key) && *key != "core:apalis:queues:list").collect();
    assert!(strangers.is_empty() && keys.iter().any(|key| key.contains(":rate:")), "{keys:?}");
}
