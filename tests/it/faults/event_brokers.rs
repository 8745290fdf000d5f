//! A RabbitMQ that is reachable and does not accept events: it is blocked, one of its queues is full, or one worker
//! can't reach it; and one without any events.

use lapin::{
    options::{QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use serde_json::Value;

use super::{
    event_targets::{NAME, bind, channel, drain, metric},
    test_cluster::{TestCluster, at_least, stops_cleanly, until},
};
use crate::support::{Process, RabbitServer};

/// Also 0 while the consumer is not registered.
const POSITION: &str =
    "select coalesce((select last_event_id from shop.event_consumer where name = 'amqp'), 0)";
/// A URL on which no server listens.
const NOWHERE: &str = "amqp://guest:guest@127.0.0.1:1";

async fn test(rabbit: &RabbitServer) -> TestCluster {
    let mut test = TestCluster::open().await;
    test.set("AMQP_URL", &rabbit.url());
    // With the shortest pauses, so that publishing is tried often.
    test.set("BREAKER_AMQP_FAILURES", "1000000");
    test
}

async fn append_events(test: &TestCluster, count: i32) {
    sqlx::query(
        "insert into shop.outbox (routing_key, key, payload)
         select 'product.updated', n::text, '{}' from generate_series(1, $1) n",
    )
    .bind(count)
    .execute(&test.pool)
    .await
    .unwrap();
}

/// Waits until a worker has failed this often to publish.
async fn failed(worker: &Process, times: f64) {
    let line: Value = serde_json::from_str(&worker.wait_for_line(r#""message":"working""#).await).unwrap();
    let url = format!("http://{}/metrics", line["address"].as_str().unwrap());
    until("failures", async || {
        let text = reqwest::get(&url).await.unwrap().text().await.unwrap();
        let failures = metric(&text, r#"sagaline_event_sink_failures_total{consumer="amqp"}"#);
        if failures >= Some(times) { Ok(()) } else { Err(failures) }
    })
    .await;
}

async fn ids(rabbit: &RabbitServer, queue: &str) -> Vec<i64> {
    drain(rabbit, queue).await.into_iter().map(|(id, ..)| id).collect()
}

#[tokio::test]
async fn the_exchange_is_declared_before_the_first_event() {
    let rabbit = RabbitServer::start().await.unwrap();
    let test = test(&rabbit).await;
    let worker = test.work().await;
    until("a queue to be bound", async || {
        let (_connection, channel) = channel(&rabbit).await;
        channel.queue_declare("q".into(), QueueDeclareOptions::default(), FieldTable::default()).await?;
        let bind = QueueBindOptions::default();
        channel.queue_bind("q".into(), NAME.into(), "#".into(), bind, FieldTable::default()).await
    })
    .await;
    append_events(&test, 3).await;
    at_least("events", 3, || test.count(POSITION)).await;
    assert_eq!(ids(&rabbit, "q").await, [1, 2, 3]);
    stops_cleanly(worker).await;
}

#[tokio::test]
async fn an_unreachable_broker_is_noticed_before_the_first_event() {
    let mut test = TestCluster::open().await;
    test.set("AMQP_URL", NOWHERE);
    let worker = test.work().await;
    failed(&worker, 2.0).await;
    stops_cleanly(worker).await;
}

#[tokio::test]
async fn a_blocked_broker_gets_one_connection_and_each_event_once() {
    let rabbit = RabbitServer::start().await.unwrap();
    let test = test(&rabbit).await;
    bind(&rabbit, &["#"]).await;
    let worker = test.work().await;
    append_events(&test, 10).await;
    at_least("events", 10, || test.count(POSITION)).await;
    rabbit.control(&["set_vm_memory_high_watermark", "0.00001"]).await.unwrap();
    append_events(&test, 300).await;
    failed(&worker, 4.0).await;
    let connections = rabbit.control(&["list_connections", "name"]).await.unwrap();
    assert_eq!(connections.lines().filter(|line| line.contains("->")).count(), 1, "{connections}");
    // Events that are appended in the meantime are held back.
    append_events(&test, 300).await;
    failed(&worker, 6.0).await;
    rabbit.control(&["set_vm_memory_high_watermark", "0.4"]).await.unwrap();
    at_least("events", 610, || test.count(POSITION)).await;
    assert_eq!(ids(&rabbit, "#").await, (1..=610).collect::<Vec<_>>());
    stops_cleanly(worker).await;
}

#[tokio::test]
async fn a_queue_that_refuses_events_stops_publishing_and_does_not_flood_other_queues() {
    let rabbit = RabbitServer::start().await.unwrap();
    let test = test(&rabbit).await;
    bind(&rabbit, &["#"]).await;
    let (_connection, channel) = channel(&rabbit).await;
    let mut bounded = FieldTable::default();
    bounded.insert("x-max-length".into(), AMQPValue::LongInt(5));
    bounded.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    channel.queue_declare("full".into(), QueueDeclareOptions::default(), bounded).await.unwrap();
    let bind = QueueBindOptions::default();
    channel.queue_bind("full".into(), NAME.into(), "#".into(), bind, FieldTable::default()).await.unwrap();
    let worker = test.work().await;
    append_events(&test, 100).await;
    failed(&worker, 5.0).await;
    assert!(test.count(POSITION).await >= 5, "what every queue took is not sent again");
    // First the batch, then one event at a time.
    let got = ids(&rabbit, "#").await.len();
    assert!((100..150).contains(&got), "{got}");
    until("the rest to be taken", async || {
        drain(&rabbit, "full").await;
        let position = test.count(POSITION).await;
        if position == 100 { Ok(()) } else { Err(position) }
    })
    .await;
    stops_cleanly(worker).await;
}

#[tokio::test]
async fn a_worker_that_can_not_reach_the_broker_yields_to_one_that_can() {
    let rabbit = RabbitServer::start().await.unwrap();
    let test = test(&rabbit).await;
    bind(&rabbit, &["#"]).await;
    let lost = test.start(&["work"], &[("AMQP_URL", NOWHERE)]);
    failed(&lost, 1.0).await;
    let well = test.work().await;
    append_events(&test, 5).await;
    at_least("events", 5, || test.count(POSITION)).await;
    assert_eq!(ids(&rabbit, "#").await, [1, 2, 3, 4, 5]);
    for process in [lost, well] {
        stops_cleanly(process).await;
    }
}
