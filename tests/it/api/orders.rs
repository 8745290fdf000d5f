//! Orders and stock over HTTP, from placement to delivery.

use engine::SagaId;
use reqwest::Method;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::WAIT_TIMEOUT;

use super::fixtures::{TestApi, body, generous_limits, order, problem};

#[tokio::test]
async fn an_order_is_confirmed_processed_and_shipped_and_then_can_not_be_cancelled() {
    let shop = TestApi::with_workers().await;
    let product = shop.stock("TEA-1", 10).await;
    let request =
        shop.request(Method::POST, "/api/orders").header("Prefer", "wait=20").header("X-Actor", "anna");
    let response = request.json(&order("TEA-1", 2)).send().await.unwrap();
    assert_eq!(response.headers()["preference-applied"], "wait=20");
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let placed = body(response, 201).await;
    assert_eq!(
        (&placed["status"], &placed["total"], &placed["currency"]),
        (&json!("confirmed"), &json!(2580), &json!("EUR"))
    );
    assert_eq!(placed["timeline"][0]["actor"], "anna");
    assert_eq!(placed["items"][0]["line_total"], 2580);
    let path = format!("/api/products/{}", product["product_id"].as_str().unwrap());
    let stock = body(shop.get(&path).await, 200).await["stock"].clone();
    assert_eq!(stock, json!({"on_hand": 10, "reserved": 2, "available": 8, "low_stock_threshold": 2}));
    let taken = shop.put(&format!("{path}/stock"), &json!({"set": 1, "reason": "count"})).await;
    problem(taken, 409, "stock-reserved").await;

    let status = format!("{location}/status");
    problem(shop.put(&status, &json!({"status": "shipped"})).await, 409, "illegal-status").await;
    problem(shop.put(&status, &json!({"status": "cancelled"})).await, 409, "illegal-status").await;
    for next in ["processing", "shipped"] {
        assert_eq!(body(shop.put(&status, &json!({"status": next})).await, 200).await["status"], next);
    }
    let cancel = shop.post(&format!("{location}/cancel"), &json!({"reason": "too late"})).await;
    problem(cancel, 409, "not-cancellable").await;
    let stock = body(shop.get(&path).await, 200).await["stock"].clone();
    assert_eq!(stock, json!({"on_hand": 8, "reserved": 0, "available": 8, "low_stock_threshold": 2}));

    let workflow = format!("/api/workflows/{}", placed["workflow_id"].as_str().unwrap());
    let history = body(shop.get(&format!("{workflow}/history")).await, 200).await;
    let steps: Vec<_> =
        history["items"].as_array().unwrap().iter().map(|item| item["step"].as_str().unwrap()).collect();
    assert_eq!(
        steps,
        ["open-order", "reserve-stock", "awaits-payment", "confirm-order", "queue-confirmation"]
    );
    for list in ["/api/orders?status=shipped", "/api/orders/status/shipped"] {
        assert_eq!(body(shop.get(list).await, 200).await["items"].as_array().unwrap().len(), 1, "{list}");
    }
    let customer = format!("/api/customers/{}/orders", placed["customer_id"].as_str().unwrap());
    assert_eq!(body(shop.get(&customer).await, 200).await["items"][0]["order_id"], placed["order_id"]);
    assert_eq!(body(shop.get("/api/orders/status/pending").await, 200).await["items"], json!([]));
}

#[tokio::test]
async fn an_order_without_enough_stock_is_rejected_with_the_short_lines() {
    let shop = TestApi::with_workers().await;
    shop.stock("TEA-1", 1).await;
    let rejected = shop.order("TEA-1", 2).await;
    assert_eq!(rejected["status"], "rejected");
    assert!(rejected["status_reason"].as_str().unwrap().contains("TEA-1"), "{rejected}");
    let cancel = format!("/api/orders/{}/cancel", rejected["order_id"].as_str().unwrap());
    problem(shop.post(&cancel, &json!({"reason": "x"})).await, 409, "not-cancellable").await;
}

#[tokio::test]
async fn a_cancelled_order_releases_its_stock_and_cancelling_again_has_no_effect() {
    let shop = TestApi::with_workers().await;
    let product = shop.stock("TEA-1", 5).await;
    let placed = shop.order("TEA-1", 2).await;
    let order = format!("/api/orders/{}", placed["order_id"].as_str().unwrap());
    let cancel = format!("{order}/cancel");
    problem(shop.post(&cancel, &json!({})).await, 422, "invalid-body").await;
    for _ in 0..2 {
        let cancelled = body(shop.post(&cancel, &json!({"reason": "changed my mind"})).await, 202).await;
        assert!(["cancelling", "cancelled"].contains(&cancelled["status"].as_str().unwrap()), "{cancelled}");
    }
    let workflows = body(shop.get("/api/workflows?definition=cancel-order").await, 200).await;
    let id = workflows["items"][0]["workflow_id"].as_str().unwrap().parse().unwrap();
    shop.engine.wait(id, WAIT_TIMEOUT).await.unwrap().expect("it ends");
    assert_eq!(body(shop.get(&order).await, 200).await["status"], "cancelled");
    let path = format!("/api/products/{}", product["product_id"].as_str().unwrap());
    assert_eq!(body(shop.get(&path).await, 200).await["stock"]["reserved"], 0);
}

#[tokio::test]
async fn without_workers_an_order_is_accepted_and_pending() {
    let shop = TestApi::without_workers(generous_limits()).await;
    shop.stock("TEA-1", 5).await;
    let placed = body(shop.post("/api/orders", &order("TEA-1", 1)).await, 201).await;
    assert_eq!(placed["status"], "pending");
}

#[tokio::test]
async fn orders_are_filtered_by_status_customer_and_creation_time() {
    let shop = TestApi::without_workers(generous_limits()).await;
    shop.stock("TEA-1", 10).await;
    let [ann, bob] = ["0199f39f-0000-7000-8000-000000000001", "0199f39f-0000-7000-8000-000000000002"];
    let mut placed = Vec::new();
    for customer in [ann, bob, ann] {
        let mut order = order("TEA-1", 1);
        order["customer_id"] = json!(customer);
        placed.push(body(shop.post("/api/orders", &order).await, 201).await);
    }
    let second = placed[1]["created_at"].as_str().unwrap();
    let lists: [(String, &[usize]); 7] = [
        (String::new(), &[2, 1, 0]),
        (format!("customer_id={ann}"), &[2, 0]),
        (format!("created_after={second}"), &[2]),
        (format!("created_before={second}"), &[0]),
        (format!("created_before={second}&customer_id={bob}"), &[]),
        (format!("status=pending&customer_id={bob}"), &[1]),
        ("status=confirmed".into(), &[]),
    ];
    for (filter, expected) in lists {
        let list = body(shop.get(&format!("/api/orders?{filter}")).await, 200).await;
        let found: Vec<_> =
            list["items"].as_array().unwrap().iter().map(|order| order["order_id"].clone()).collect();
        let expected: Vec<_> = expected.iter().map(|nth| placed[*nth]["order_id"].clone()).collect();
        assert_eq!(found, expected, "{filter}");
    }
    problem(shop.get("/api/orders?created_after=yesterday").await, 400, "invalid-parameter").await;
}

#[tokio::test]
async fn an_order_shows_its_lines_and_timeline_and_its_workflow_shows_every_attempt() {
    let shop = TestApi::with_workers().await;
    shop.stock("TEA-1", 10).await;
    let placed = shop.order("TEA-1", 2).await;
    let path = format!("/api/orders/{}", placed["order_id"].as_str().unwrap());
    let move_on = json!({"status": "processing", "reason": "packed"});
    let moving = shop.request(Method::PUT, &format!("{path}/status")).header("X-Actor", "bert");
    body(moving.json(&move_on).send().await.unwrap(), 200).await;

    let shown = body(shop.get(&path).await, 200).await;
    let line = json!({"sku": "TEA-1", "name": "TEA-1 of the best", "quantity": 2, "unit_price": 1290, "line_total": 2580});
    assert_eq!((&shown["items"], &shown["total"]), (&json!([line]), &json!(2580)), "minor units");
    let timeline = shown["timeline"].as_array().unwrap();
    let entries: Vec<_> = timeline
        .iter()
        .map(|entry| (entry["status"].as_str().unwrap(), entry["actor"].as_str().unwrap()))
        .collect();
    assert_eq!(entries, [("pending", "api"), ("confirmed", "place-order"), ("processing", "bert")]);
    assert_eq!((&timeline[2]["reason"], &timeline[1]["reason"]), (&json!("packed"), &json!(null)));
    let times: Vec<_> = timeline.iter().map(|entry| entry["at"].as_str().unwrap()).collect();
    for time in &times {
        assert!(time.ends_with('Z') && chrono::DateTime::parse_from_rfc3339(time).is_ok(), "{time}");
    }
    assert!(times.is_sorted(), "{times:?}");
    for id in ["order_id", "workflow_id"] {
        let id: uuid::Uuid = shown[id].as_str().unwrap().parse().unwrap();
        assert_eq!(id.get_version_num(), 7);
    }

    let moved = body(shop.get("/api/audit?action=order.status").await, 200).await["items"][0].clone();
    assert_eq!((&moved["actor"], &moved["reason"]), (&json!("bert"), &json!("packed")), "{moved}");

    let workflow = format!("/api/workflows/{}", shown["workflow_id"].as_str().unwrap());
    let state = body(shop.get(&workflow).await, 200).await;
    assert_eq!(
        (&state["definition"], &state["status"]),
        (&json!("place-order"), &json!("completed")),
        "{state}"
    );
    assert!(
        state["created_at"].is_string() && state["ended_at"].is_string() && state["error"].is_null(),
        "{state}"
    );

    // Its history tells the same times: an entry of the timeline is written while its step runs.
    let history = body(shop.get(&format!("{workflow}/history")).await, 200).await;
    let time = |text: &Value| chrono::DateTime::parse_from_rfc3339(text.as_str().unwrap()).unwrap();
    for (entry, written, begun_before) in
        [(0, "open-order", "open-order"), (1, "confirm-order", "reserve-stock")]
    {
        let step = |name: &str| {
            history["items"].as_array().unwrap().iter().find(|item| item["step"] == name).unwrap().clone()
        };
        let at = time(&timeline[entry]["at"]);
        assert!(time(&step(begun_before)["started_at"]) <= at, "{begun_before}: {history} {shown}");
        let (step, a_rounding) = (step(written), chrono::Duration::milliseconds(2));
        let took = chrono::Duration::milliseconds(step["duration_ms"].as_i64().unwrap());
        assert!(at <= time(&step["started_at"]) + took + a_rounding, "{written}: {history} {shown}");
    }

    // A compensated order shows the error of the attempt, and the undo after the action.
    let rejected = shop.order("TEA-1", 200).await;
    let path = format!("/api/workflows/{}/history", rejected["workflow_id"].as_str().unwrap());
    let history = body(shop.get(&path).await, 200).await;
    let items = history["items"].as_array().unwrap();
    let steps: Vec<_> = items
        .iter()
        .map(|item| (item["step"].as_str().unwrap(), item["direction"].as_str().unwrap()))
        .collect();
    assert_eq!(steps, [("open-order", "action"), ("reserve-stock", "action"), ("open-order", "undo")]);
    assert_eq!((&items[1]["outcome"], &items[1]["attempt"]), (&json!("failed"), &json!(1)), "{history}");
    assert!(items[1]["error"].to_string().contains("TEA-1"), "{history}");
    for item in items {
        assert!(item["started_at"].is_string() && item["duration_ms"].is_number(), "{item}");
    }
}

#[tokio::test]
async fn a_cancel_that_is_only_requested_is_reported_as_such_and_carried_out_later() {
    let shop = TestApi::without_workers(generous_limits()).await;
    shop.stock("TEA-1", 5).await;
    // Another process has claimed the placement and does nothing yet.
    let mut feed = shop.engine.feed("default", 8);
    let placed = body(shop.post("/api/orders", &order("TEA-1", 1)).await, 201).await;
    let job = tokio::time::timeout(WAIT_TIMEOUT, feed.recv()).await.unwrap().unwrap();
    let path = format!("/api/orders/{}", placed["order_id"].as_str().unwrap());
    let cancel = json!({"reason": "changed my mind"});
    let noted = body(shop.post(&format!("{path}/cancel"), &cancel).await, 202).await;
    assert_eq!(noted["status"], "pending", "it is accepted all the same");
    let workflow = format!("/api/workflows/{}", placed["workflow_id"].as_str().unwrap());
    assert_eq!(body(shop.get(&workflow).await, 200).await["cancel_requested"], true);
    // A cancel of a certain version depends on whether the order is confirmed first.
    let etag = shop.get(&path).await.headers()["etag"].clone();
    let conditional = shop.request(Method::POST, &format!("{path}/cancel")).header("If-Match", etag);
    let conditional = conditional.json(&cancel).send().await.unwrap();
    assert_eq!(conditional.headers()["retry-after"], "1");
    let conditional = problem(conditional, 409, "cancel-noted").await;
    assert!(conditional["detail"].as_str().unwrap().contains("is noted"), "{conditional}");
    let (engine, closing) = (shop.engine.clone(), CancellationToken::new());
    let closed = closing.clone();
    let work = tokio::spawn(async move {
        let performed = engine.perform(&job).await;
        engine.commit(job, performed).await;
        engine.run(&mut feed, closed).await;
    });
    let again = body(shop.post(&format!("{path}/cancel"), &cancel).await, 202).await;
    assert!(["cancelling", "cancelled"].contains(&again["status"].as_str().unwrap()), "{again}");
    let placement = placed["workflow_id"].as_str().unwrap().parse().map(SagaId).unwrap();
    shop.engine.wait(placement, WAIT_TIMEOUT).await.unwrap().expect("it ends");
    assert_eq!(body(shop.get(&path).await, 200).await["status"], "cancelled");
    closing.cancel();
    work.await.unwrap();
    problem(shop.post(&format!("{path}/cancel"), &json!({"reason": " "})).await, 422, "invalid-body").await;
}
