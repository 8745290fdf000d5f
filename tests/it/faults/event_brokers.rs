//! RabbitMQ when it is there and does not take what it is given: it is blocked, a queue of it is full, one worker can't
//! reach it; and when there is nothing to give.

use lapin::{
    options::{QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use serde_json::Value;

use super::{
    event_targets::{NAME, bind, channel, drain, metric},
    test_cluster::{TestCluster, at_least, ends_in_order, until},
};
use crate::support::{Process, RabbitServer};

/// 0 as well while the consumer is not registered yet.
const POSITION: &str =
    "select coalesce((select last_event_id from shop.event_consumer where name = 'amqp'), 0)";
/// On it nobody listens.
const NOWHERE: &str = "amqp://guest:guest@127.0.0.1:1";

async fn test(rabbit: &RabbitServer) -> TestCluster {
    let mut test = TestCluster::open().await;
    test.set("AMQP_URL", &rabbit.url());
    // So that it is tried as often as it can be.
    test.set("BREAKER_AMQP_FAILURES", "1000000");
    test
}

async fn tell(test: &TestCluster, count: i32) {
    sqlx::query(
        "insert into shop.outbox (routing_key, key, payload)
         select 'product.updated', n::text, '{}' from generate_series(1, $1) n",
    )
    .bind(count)
    .execute(&test.pool)
    .await
    .unwrap();
}

/// Waits until a worker has failed so often to publish.
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
async fn the_exchange_is_there_before_the_first_event() {
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
    tell(&test, 3).await;
    at_least("events", 3, || test.count(POSITION)).await;
    assert_eq!(ids(&rabbit, "q").await, [1, 2, 3]);
    ends_in_order(worker).await;
}

#[tokio::test]
async fn a_broker_that_can_not_be_reached_is_known_before_the_first_event() {
    let mut test = TestCluster::open().await;
    test.set("AMQP_URL", NOWHERE);
    let worker = test.work().await;
    failed(&worker, 2.0).await;
    ends_in_order(worker).await;
}

#[tokio::test]
async fn a_broker_that_blocks_gets_one_connection_and_each_event_once() {
    let rabbit = RabbitServer::start().await.unwrap();
    let test = test(&rabbit).await;
    bind(&rabbit, &["#"]).await;
    let worker = test.work().await;
    tell(&test, 10).await;
    at_least("events", 10, || test.count(POSITION)).await;
    rabbit.control(&["set_vm_memory_high_watermark", "0.00001"]).await.unwrap();
    tell(&test, 300).await;
    failed(&worker, 4.0).await;
    let connections = rabbit.control(&["list_connections", "name"]).await.unwrap();
    assert_eq!(connections.lines().filter(|line| line.contains("->")).count(), 1, "{connections}");
    // More that happens meanwhile is kept back.
    tell(&test, 300).await;
    failed(&worker, 6.0).await;
    rabbit.control(&["set_vm_memory_high_watermark", "0.4"]).await.unwrap();
    at_least("events", 610, || test.count(POSITION)).await;
    assert_eq!(ids(&rabbit, "#").await, (1..=610).collect::<Vec<_>>());
    ends_in_order(worker).await;
}

#[tokio::test]
async fn a_queue_that_refuses_holds_up_what_follows_and_floods_no_other_queue() {
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
    tell(&test, 100).await;
    failed(&worker, 5.0).await;
    assert!(test.count(POSITION).await >= 5, "what every queue took is not sent again");
    // The batch once, then one event a time.
    let got = ids(&rabbit, "#").await.len();
    assert!((100..150).contains(&got), "{got}");
    until("the rest to be taken", async || {
        drain(&rabbit, "full").await;
        let position = test.count(POSITION).await;
        if position == 100 { Ok(()) } else { Err(position) }
    })
    .await;
    ends_in_order(worker).await;
}

#[tokio::test]
async fn a_worker_that_can_not_reach_the_broker_leaves_it_to_one_that_can() {
    let rabbit = RabbitServer::start().await.unwrap();
    let test = test(&rabbit).await;
    bind(&rabbit, &["#"]).await;
    let lost = test.start(&["work"], &[("AMQP_URL", NOWHERE)]);
    failed(&lost, 1.0).await;
    let well = test.work().await;
    tell(&test, 5).await;
    at_least("events", 5, || test.count(POSITION)).await;
    assert_eq!(ids(&rabbit, "#").await, [1, 2, 3, 4, 5]);
    for process in [lost, well] {
        ends_in_order(process).await;
    }
}
