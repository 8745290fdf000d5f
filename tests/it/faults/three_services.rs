//! The three services and two workers as separate processes, and one order across all of them.

use serde_json::{Value, json};

use super::{
    event_targets::{bind, connect, drain, make_group, read_group},
    test_cluster::{TestCluster, stops_cleanly, until},
};
use crate::support::{RabbitServer, RedisServer, WAIT_TIMEOUT};

/// Reads server-sent events until one has this routing key; returns all events so far.
async fn followed_until(mut stream: reqwest::Response, last: &str) -> Vec<Value> {
    let (mut text, mut seen) = (String::new(), Vec::new());
    loop {
        let chunk = stream.chunk().await.unwrap().expect("the stream continues");
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
async fn an_order_placed_at_one_service_is_visible_at_the_others_and_its_events_reach_every_consumer() {
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

    // Each service serves its own operations and no others.
    assert_eq!(orders.client.status("/api/products").await, 404);
    assert_eq!(inventory.client.status("/api/orders").await, 404);
    assert_eq!(notifications.client.status("/api/orders").await, 404);

    // Each serves the whole OpenAPI document.
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

    let mut appended = Vec::new();
    while !appended.iter().any(|fields: &Vec<String>| fields.contains(&"order.confirmed".to_owned())) {
        let new = until("the Redis group to be appended more", async || {
            let new = read_group(&mut connect(&redis.url()).await.unwrap(), "billing").await;
            if new.is_empty() { Err(appended.len()) } else { Ok(new) }
        })
        .await;
        appended.extend(new.into_iter().map(|(_, fields)| fields));
    }
    test.wait_until_no_saga_is_active().await;
    let at_amqp = "select last_event_id from shop.event_consumer where name = 'amqp'";
    super::test_cluster::at_least("RabbitMQ to have them", confirmed, || test.count(at_amqp)).await;
    let bound: Vec<_> = drain(&rabbit, "order.*").await.into_iter().map(|(_, key, _)| key).collect();
    assert_eq!(bound, ["order.created", "order.confirmed"]);

    for process in workers.into_iter().chain([orders.process, inventory.process, notifications.process]) {
        stops_cleanly(process).await;
    }
    test.assert_all_well().await;
}

#[tokio::test]
async fn every_process_uses_the_configured_administrators_sender_and_deadlines() {
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
        products.push(inventory.client.post_until_accepted("/api/products", sku, &product).await);
    }
    // A worker sends the alert for a level that an order made low, the inventory service for one that an operator made
    // low.
    orders.client.place("ann@example.com", "TEA-1", 2).await;
    let stock = format!("/api/products/{}/stock", products[1]["product_id"].as_str().unwrap());
    inventory.client.put(&stock, &json!({"adjust": -2, "reason": "damaged"})).await;

    let mails = until("the administrator to be appended of both", async || {
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
    test.wait_until_no_saga_is_active().await;
    for process in [worker, orders.process, inventory.process, notifications.process] {
        stops_cleanly(process).await;
    }
    test.assert_all_well().await;
}

#[tokio::test]
async fn orders_wait_for_payments_and_returns_for_people_as_long_as_the_processes_are_told() {
    let mut test = TestCluster::open().await;
    test.set("RETURN_APPROVAL_WINDOW", "3d");
    test.set("RETURN_PARCEL_WINDOW", "5d");
    let worker = test.work().await;
    test.set("PAYMENT_WINDOW", "10m");
    let served = test.serve().await;
    served.client.add_product("TEA-1", 10).await;
    let order_id = served.client.place("ann@example.com", "TEA-1", 2).await;
    let path = format!("/api/orders/{order_id}");
    let pending = served.client.json(&path).await;
    assert!(pending["payment_due_at"].is_string(), "{pending}");
    let payment = json!({
        "definition": "place-order", "business_key": order_id, "name": "payment-received",
        "message": {"reference": "pay-17"}, "key": "pay-17",
    });
    served.client.post_until_accepted("/api/signals", "", &payment).await;
    let confirmed = until("the order to be confirmed", async || {
        let order = served.client.json(&path).await;
        if order["status"] == "confirmed" { Ok(order) } else { Err(order) }
    })
    .await;
    assert_eq!(confirmed["status_reason"], "paid: pay-17");

    for status in ["processing", "shipped"] {
        served.client.put(&format!("{path}/status"), &json!({"status": status})).await;
    }
    let asked = json!({"reason": "too small"});
    let requested = served.client.post_until_accepted(&format!("{path}/returns"), "return", &asked).await;
    let found = format!("/api/returns/{}", requested["return_id"].as_str().unwrap());
    let workflow = format!("/api/workflows/{}", requested["workflow_id"].as_str().unwrap());
    let waits_for_days = async |signal: &str| {
        let saga = until(signal, async || {
            let saga = served.client.json(&workflow).await;
            if saga["signal"] == signal { Ok(saga) } else { Err(saga) }
        })
        .await;
        let time = |name: &str| chrono::DateTime::parse_from_rfc3339(saga[name].as_str().unwrap()).unwrap();
        (time("wait_until") - time("created_at")).num_days()
    };
    assert_eq!(waits_for_days("return-decided").await, 3);
    served.client.post_until_accepted(&format!("{found}/approve"), "", &json!({})).await;
    assert_eq!(waits_for_days("parcel-arrived").await, 5);
    served.client.post_until_accepted(&format!("{found}/receive"), "", &json!({})).await;
    until("the return to be completed", async || {
        let found = served.client.json(&found).await;
        if found["status"] == "completed" { Ok(()) } else { Err(found) }
    })
    .await;
    test.wait_until_no_saga_is_active().await;
    for process in [worker, served.process] {
        stops_cleanly(process).await;
    }
    test.assert_all_well().await;
}

#[tokio::test]
async fn a_mail_dies_after_the_configured_attempts_and_its_dead_job_expires_as_configured() {
    let mut test = TestCluster::open().await;
    // No server listens there.
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
        stops_cleanly(process).await;
    }
}
