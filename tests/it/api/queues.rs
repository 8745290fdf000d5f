//! Queues, paused and resumed over HTTP.

use std::time::Duration;

use engine::Status;
use reqwest::Method;
use serde_json::{Value, json};
use shop::audit;

use crate::support::WAIT_TIMEOUT;

use super::fixtures::{TestApi, body, generous_limits, order, problem};

async fn queue(shop: &TestApi, name: &str) -> Value {
    let list = body(shop.get("/api/queues").await, 200).await;
    assert_eq!(list["next_cursor"], Value::Null);
    list["items"].as_array().unwrap().iter().find(|queue| queue["name"] == name).unwrap().clone()
}

#[tokio::test]
async fn invalid_changes_and_unknown_queues_are_refused() {
    let shop = TestApi::without_workers(generous_limits()).await;
    for wrong in [
        json!({}),
        json!({"paused": "yes", "reason": "x"}),
        json!({"paused": true}),
        json!({"paused": true, "reason": ""}),
        json!({"paused": true, "reason": "a\nb"}),
        json!({"paused": true, "reason": "x".repeat(501)}),
        json!({"paused": true, "reason": "x", "colour": "red"}),
    ] {
        problem(shop.put("/api/queues/default", &wrong).await, 422, "invalid-body").await;
    }
    let pause = json!({"paused": true, "reason": "the server moves"});
    problem(shop.put("/api/queues/no-such-queue", &pause).await, 404, "not-found").await;
    problem(shop.put(&format!("/api/queues/{}", "q".repeat(129)), &pause).await, 400, "invalid-parameter")
        .await;
    problem(shop.get("/api/queues?limit=1").await, 400, "invalid-parameter").await;
    problem(shop.get("/api/queues/no-such-queue").await, 404, "not-found").await;
    assert_eq!(queue(&shop, "default").await["paused"], false);
}

#[tokio::test]
async fn a_paused_queue_holds_orders_and_degrades_health_until_it_is_resumed() {
    let shop = TestApi::with_workers().await;
    shop.stock("TEA-1", 5).await;
    let pause = json!({"paused": true, "reason": "the warehouse burns"});
    let request = shop.request(Method::PUT, "/api/queues/default").header("X-Actor", "olga").json(&pause);
    let paused = body(request.send().await.unwrap(), 200).await;
    assert_eq!(
        (&paused["paused"], &paused["paused_by"], &paused["reason"]),
        (&json!(true), &json!("olga"), &json!("the warehouse burns"))
    );
    // The order is accepted durably nevertheless, and waits.
    let placed = body(shop.post("/api/orders", &order("TEA-1", 1)).await, 201).await;
    let workflow = placed["workflow_id"].as_str().unwrap().parse().unwrap();
    assert_eq!(shop.engine.wait(workflow, Duration::from_millis(1200)).await.unwrap(), None);
    let held = queue(&shop, "default").await;
    assert_eq!((&held["due"], &held["leased"]), (&json!(1), &json!(0)), "{held}");
    assert!(held["oldest_due_ms"].as_i64().unwrap() >= 1000, "{held}");
    assert_eq!(queue(&shop, "notifications").await["paused"], false);
    let health = body(shop.get("/health").await, 200).await;
    assert_eq!(health["parts"]["queue"]["state"], "degraded", "{health}");
    assert_eq!(health["parts"]["queue"]["detail"], "paused: `default`");
    let metrics = body(shop.get("/metrics").await, 200).await;
    let metrics = metrics.as_str().unwrap();
    // All test APIs of this process share the gauge, which has the value of the API that was scraped last.
    assert!(metrics.contains("sagaline_queue_paused{queue=\"default\"} "), "{metrics}");

    let resumed = body(shop.put("/api/queues/default", &json!({"paused": false})).await, 200).await;
    assert_eq!((&resumed["paused"], &resumed["paused_by"]), (&json!(false), &Value::Null));
    let ending = shop.engine.wait(workflow, WAIT_TIMEOUT).await.unwrap().unwrap();
    assert_eq!(ending.status, Status::Completed);

    let filter = audit::Filter { subject_kind: Some("queue".into()), ..audit::Filter::default() };
    let records = audit::list(shop.engine.pool(), &filter, None, 10).await.unwrap().items;
    let recorded: Vec<_> = records
        .iter()
        .map(|record| (record.actor.as_str(), record.action.as_str(), record.reason.as_deref()))
        .collect();
    assert_eq!(
        recorded,
        [("operator", "queue.resume", None), ("olga", "queue.pause", Some("the warehouse burns"))]
    );
    assert_eq!(records[0].before.as_ref().unwrap()["paused"], true);
    assert_eq!(records[1].after.as_ref().unwrap()["reason"], "the warehouse burns");
    assert!(
        records.iter().all(|record| record.trace_id.is_some() && record.address.is_some()),
        "{records:?}"
    );
}

/// The audit records of queues, oldest first: the action, and the state before and after.
async fn recorded(shop: &TestApi) -> Vec<(String, Value, Value)> {
    let filter = audit::Filter { subject_kind: Some("queue".into()), ..audit::Filter::default() };
    let records = audit::list(shop.engine.pool(), &filter, None, 10).await.unwrap().items;
    let recorded = records.into_iter().rev();
    recorded.map(|record| (record.action, record.before.unwrap(), record.after.unwrap())).collect()
}

#[tokio::test]
async fn of_two_concurrent_changes_of_a_queue_one_is_refused_by_its_version() {
    let shop = TestApi::without_workers(generous_limits()).await;
    let read = shop.get("/api/queues/default").await;
    let seen = read.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(body(read, 200).await["paused"], false);
    let set = |who: &'static str, tag: &str, change: Value| {
        let request = shop.request(Method::PUT, "/api/queues/default").header("If-Match", tag);
        request.header("X-Actor", who).json(&change).send()
    };
    let pause = |reason: &str| json!({"paused": true, "reason": reason});
    // Neither has touched the queue yet, so there is no row on which one could wait for the other.
    let (anna, bob) = tokio::join!(set("anna", &seen, pause("fire")), set("bob", &seen, pause("flood")));
    let (mut done, mut refused) = (Vec::new(), Vec::new());
    for answer in [anna.unwrap(), bob.unwrap()] {
        if answer.status() == 200 { done.push(answer) } else { refused.push(answer) }
    }
    let (done, refused) = (done.pop().unwrap(), refused.pop().unwrap());
    let current = done.headers()["etag"].to_str().unwrap().to_owned();
    let refusal = problem(refused, 412, "precondition-failed").await;
    assert!(refusal["detail"].as_str().unwrap().contains(&current), "{refusal}");
    let paused = body(done, 200).await;

    problem(set("bob", &seen, json!({"paused": false})).await.unwrap(), 412, "precondition-failed").await;
    problem(set("bob", "\"v99\"", pause("frost")).await.unwrap(), 412, "precondition-failed").await;
    let either = format!("{seen}, {current}");
    let again = set("cleo", &either, pause("frost")).await.unwrap();
    let newest = again.headers()["etag"].to_str().unwrap().to_owned();
    assert_ne!(newest, current);
    assert_eq!(body(again, 200).await["paused_by"], "cleo");

    let by = |who: &Value, why: &Value| json!({"paused": true, "paused_by": who, "reason": why});
    let untouched = json!({"paused": false, "paused_by": null, "reason": null});
    let first = by(&paused["paused_by"], &paused["reason"]);
    assert_eq!(
        recorded(&shop).await,
        [
            ("queue.pause".to_owned(), untouched, first.clone()),
            ("queue.pause".to_owned(), first, by(&json!("cleo"), &json!("frost"))),
        ]
    );
}

#[tokio::test]
async fn a_change_without_effect_leaves_no_row_no_version_and_no_audit_record() {
    let shop = TestApi::without_workers(generous_limits()).await;
    let set = async |change: Value| {
        let answer = shop.put("/api/queues/default", &change).await;
        let tag = answer.headers()["etag"].to_str().unwrap().to_owned();
        (tag, body(answer, 200).await["since"].clone())
    };
    let (untouched, since) = set(json!({"paused": false, "reason": "just to be sure"})).await;
    assert_eq!(since, Value::Null, "it was never paused");
    let pause = json!({"paused": true, "reason": "fire"});
    let paused = set(pause.clone()).await;
    assert_ne!(paused.0, untouched);
    assert_eq!(set(pause).await, paused);
    let resumed = set(json!({"paused": false})).await;
    assert_eq!(set(json!({"paused": false, "reason": "again"})).await, resumed);
    let actions: Vec<_> = recorded(&shop).await.into_iter().map(|(action, _, _)| action).collect();
    assert_eq!(actions, ["queue.pause", "queue.resume"]);
}
