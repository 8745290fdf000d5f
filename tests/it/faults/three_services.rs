//! The three services and two workers as processes of their own, and what one order comes to in all of them.

use serde_json::{Value, json};

use super::{
    event_targets::{bind, connect, drain, make_group, read_group},
    test_cluster::{TestCluster, ends_in_order, until},
};
use crate::support::{RabbitServer, RedisServer, WAIT_TIMEOUT};

/// Follows server-sent events until one has this routing key; gives all that came by then.
async fn followed_until(mut stream: reqwest::Response, last: &str) -> Vec<Value> {
    let (mut text, mut seen) = (String::new(), Vec::new());
    loop {
        let chunk = stream.chunk().await.unwrap().expect("the stream goes on");
        text.push_str(std::str::from_utf8(&chunk).unwrap());
        while let Some(end) = text.find("\n\n") {
            let block: String = text.drain(..end + 2).collect();
            let Some(data) = block.lines().find_map(|line| line.strip_prefix("data: ")) else { continue };
            let event: Value = serde_json::from_str(data).unwrap();
            let is_last = event["routing_key"] == last;
            seen.push(event);
            if is_last {
                return seen;
            }
        }
    }
}

#[tokio::test]
async fn an_order_placed_at_one_service_shows_at_the_others_and_its_events_reach_every_consumer() {
    let (redis, rabbit) = (RedisServer::start().await.unwrap(), RabbitServer::start().await.unwrap());
    let mut test = TestCluster::open().await;
    test.set("REDIS_URL", &redis.url());
    test.set("AMQP_URL", &rabbit.url());
    bind(&rabbit, &["order.*"]).await;
    let mut client = connect(&redis.url()).await.unwrap();
    make_group(&mut client, "billing").await;
    let orders = test.serve_service("orders").await;
    let inventory = test.serve_service("inventory").await;
    let notifications = test.serve_service("notifications").await;
    let workers = [test.work().await, test.work().await];

    // Each answers for its own part and for no other.
    assert_eq!(orders.client.status("/api/products").await, 404);
    assert_eq!(inventory.client.status("/api/orders").await, 404);
    assert_eq!(notifications.client.status("/api/orders").await, 404);

    // But each shows the contract of all: which of them is asked is not the caller's choice.
    let contract: Value = serde_json::from_str(&api::openapi_json()).unwrap();
    for service in [&orders, &inventory, &notifications] {
        let shown = service.client.json("/openapi.json").await;
        assert_eq!(shown["paths"].as_object().unwrap().len(), contract["paths"].as_object().unwrap().len());
    }

    inventory.client.add_product("TEA-1", 50).await;
    let stream = orders.client.open("/api/events?topics=order.*").await;
    let following = tokio::spawn(followed_until(stream, "order.confirmed"));
    let order_id = orders.client.place("ann@example.com", "TEA-1", 2).await;

    let stock = until("the stock to be reserved", async || {
        let list = inventory.client.json("/api/products?search=TEA-1").await;
        let stock = list["items"][0]["stock"].clone();
        if stock["reserved"] == 2 { Ok(stock) } else { Err(list) }
    })
    .await;
    assert_eq!((stock["on_hand"].as_i64(), stock["available"].as_i64()), (Some(50), Some(48)));
    until("the mail to be sent", async || {
        let sent = notifications.client.json("/api/notifications/status/sent").await;
        let is_there = sent["items"].as_array().unwrap().iter().any(|mail| {
            mail["to"] == "ann@example.com"
                && mail["subject"].as_str().unwrap().contains(&order_id.to_string())
        });
        if is_there { Ok(()) } else { Err(sent) }
    })
    .await;

    let heard = tokio::time::timeout(WAIT_TIMEOUT, following).await.unwrap().unwrap();
    let keys: Vec<_> = heard.iter().map(|event| event["routing_key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["order.created", "order.confirmed"]);
    let confirmed = heard[1]["event_id"].as_i64().unwrap();
    assert_eq!(heard[1]["payload"]["order_id"], order_id.to_string());

    let mut told = Vec::new();
    while !told.iter().any(|fields: &Vec<String>| fields.contains(&"order.confirmed".to_owned())) {
        let new = until("the Redis group to be told more", async || {
            let new = read_group(&mut connect(&redis.url()).await.unwrap(), "billing").await;
            if new.is_empty() { Err(told.len()) } else { Ok(new) }
        })
        .await;
        told.extend(new.into_iter().map(|(_, fields)| fields));
    }
    test.all_at_rest().await;
    let at_amqp = "select last_event_id from shop.event_consumer where name = 'amqp'";
    super::test_cluster::at_least("RabbitMQ to have them", confirmed, || test.count(at_amqp)).await;
    let bound: Vec<_> = drain(&rabbit, "order.*").await.into_iter().map(|(_, key, _)| key).collect();
    assert_eq!(bound, ["order.created", "order.confirmed"]);

    for process in workers.into_iter().chain([orders.process, inventory.process, notifications.process]) {
        ends_in_order(process).await;
    }
    test.assert_all_well().await;
}

#[tokio::test]
async fn administrators_senders_and_deadlines_are_those_of_the_environment_in_every_process() {
    let mut test = TestCluster::open().await;
    test.set("ADMIN_EMAILS", "boss@example.com");
    test.set("MAIL_FROM", "Teas <teas@example.com>");
    test.set("RESERVATION_TTL", "90s");
    let (orders, inventory) = (test.serve_service("orders").await, test.serve_service("inventory").await);
    let notifications = test.serve_service("notifications").await;
    let worker = test.work().await;
    let mut products = Vec::new();
    for sku in ["TEA-1", "TEA-2"] {
        let product = json!({
            "sku": sku, "name": sku, "category": "tea", "price": 1290, "currency": "EUR",
            "initial_stock": 50, "low_stock_threshold": 49,
        });
        products.push(inventory.client.insist("/api/products", sku, &product).await);
    }
    // A worker tells of what an order makes low, the inventory service of what a person does.
    orders.client.place("ann@example.com", "TEA-1", 2).await;
    let stock = format!("/api/products/{}/stock", products[1]["product_id"].as_str().unwrap());
    inventory.client.put(&stock, &json!({"adjust": -2, "reason": "damaged"})).await;

    let mails = until("the administrator to be told of both", async || {
        let sent = notifications.client.json("/api/notifications/status/sent").await;
        let to_boss = |mail: &&Value| mail["to"] == "boss@example.com";
        let mails: Vec<_> = sent["items"].as_array().unwrap().iter().filter(to_boss).cloned().collect();
        if mails.len() == 2 { Ok(mails) } else { Err(sent) }
    })
    .await;
    for sku in ["TEA-1", "TEA-2"] {
        assert!(mails.iter().any(|mail| mail["subject"].as_str().unwrap().contains(sku)), "{sku}: {mails:?}");
    }
    for message in test.catcher.messages() {
        assert_eq!(message.from, "teas@example.com");
        assert_eq!(message.header("From").as_deref(), Some("Teas <teas@example.com>"));
    }
    let kept = "select extract(epoch from deadline_at - created_at)::bigint from engine.saga \
                where definition = 'place-order'";
    assert_eq!(test.count(kept).await, 90);
    test.all_at_rest().await;
    for process in [worker, orders.process, inventory.process, notifications.process] {
        ends_in_order(process).await;
    }
    test.assert_all_well().await;
}

#[tokio::test]
async fn a_mail_dies_after_as_many_attempts_and_lies_for_as_long_as_the_environment_says() {
    let mut test = TestCluster::open().await;
    // Nobody listens there.
    test.set("SMTP_URL", "smtp://127.0.0.1:1");
    test.set("RETRY_SEND_MAIL_ATTEMPTS", "2");
    test.set("DEAD_JOB_TTL", "2h");
    test.set("DEAD_JOB_TTL_DELIVER_NOTIFICATION", "3h");
    let (served, worker) = (test.serve().await, test.work().await);
    served.client.deliver("ann@example.com").await;
    let job = until("the mail to be dead", async || {
        let jobs = served.client.json("/api/dead-jobs").await;
        jobs["items"].get(0).cloned().ok_or(jobs)
    })
    .await;
    assert_eq!((&job["step"], &job["attempts"]), (&json!("send-mail"), &json!(2)), "{job}");
    let time = |name: &str| chrono::DateTime::parse_from_rfc3339(job[name].as_str().unwrap()).unwrap();
    assert_eq!((time("expires_at") - time("died_at")).num_seconds(), 3 * 3600, "{job}");
    for process in [worker, served.process] {
        ends_in_order(process).await;
    }
}
