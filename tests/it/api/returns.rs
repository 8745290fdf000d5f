//! Returns over HTTP, and payments.

use reqwest::Method;
use serde_json::{Value, json};

use super::fixtures::{TestApi, body, order, problem};

/// A shipped order of three, and its path.
pub(super) async fn shipped(shop: &TestApi, sku: &str) -> String {
    let placed = shop.request(Method::POST, "/api/orders").header("Prefer", "wait=20");
    let placed = body(placed.json(&order(sku, 3)).send().await.unwrap(), 201).await;
    let path = format!("/api/orders/{}", placed["order_id"].as_str().unwrap());
    for status in ["processing", "shipped"] {
        body(shop.put(&format!("{path}/status"), &json!({"status": status})).await, 200).await;
    }
    path
}

/// Reads a return until it is in this status.
pub(super) async fn until(shop: &TestApi, path: &str, status: &str) -> Value {
    let reaches = async {
        loop {
            let found = body(shop.get(path).await, 200).await;
            if found["status"] == status {
                return found;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(crate::support::WAIT_TIMEOUT, reaches).await.expect("the return reaches the status")
}

#[tokio::test]
async fn a_shipped_order_is_returned_approved_and_received() {
    let shop = TestApi::with_workers().await;
    let product = shop.stock("TEA-1", 10).await;
    let order = shipped(&shop, "TEA-1").await;
    let request = json!({"reason": "too small", "items": [{"sku": "TEA-1", "quantity": 2}]});
    let send = async || {
        let request = shop.request(Method::POST, &format!("{order}/returns")).json(&request);
        request.header("Idempotency-Key", "return-1").header("X-Actor", "ann").send().await.unwrap()
    };
    let response = send().await;
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let tag = response.headers()["etag"].to_str().unwrap().to_owned();
    let requested = body(response, 201).await;
    assert_eq!(location, format!("/api/returns/{}", requested["return_id"].as_str().unwrap()));
    assert_eq!(
        requested["items"],
        json!([{"sku": "TEA-1", "quantity": 2, "received": null, "restocked": null}])
    );
    assert_eq!(
        (&requested["status"], &requested["timeline"][0]["actor"]),
        (&json!("requested"), &json!("ann"))
    );
    assert_eq!(
        body(send().await, 201).await["return_id"],
        requested["return_id"],
        "the key makes it one return"
    );
    let workflow = format!("/api/workflows/{}", requested["workflow_id"].as_str().unwrap());
    assert_eq!(body(shop.get(&workflow).await, 200).await["definition"], "return-order");

    for list in ["/api/returns", "/api/returns?status=requested", &format!("{order}/returns")] {
        let items = body(shop.get(list).await, 200).await["items"].clone();
        assert_eq!(items.as_array().unwrap().len(), 1, "{list}");
    }
    assert_eq!(body(shop.get("/api/returns?status=completed").await, 200).await["items"], json!([]));

    problem(shop.post(&format!("{location}/receive"), &json!({})).await, 409, "illegal-return-status").await;
    let approve = |tag: &str| {
        let request = shop.request(Method::POST, &format!("{location}/approve")).header("If-Match", tag);
        request.json(&json!({"reason": "in time"})).send()
    };
    problem(approve("\"7\"").await.unwrap(), 412, "precondition-failed").await;
    let approved = body(approve(&tag).await.unwrap(), 200).await;
    assert_eq!((&approved["status"], &approved["status_reason"]), (&json!("approved"), &json!("in time")));
    problem(
        shop.post(&format!("{location}/reject"), &json!({"reason": "no"})).await,
        409,
        "illegal-return-status",
    )
    .await;

    let parcel =
        json!({"items": [{"sku": "TEA-1", "quantity": 2, "fit_for_sale": 1}], "reason": "one is broken"});
    let received = body(shop.post(&format!("{location}/receive"), &parcel).await, 200).await;
    assert_eq!(received["items"], json!([{"sku": "TEA-1", "quantity": 2, "received": 2, "restocked": 1}]));
    until(&shop, &location, "completed").await;
    let path = format!("/api/products/{}", product["product_id"].as_str().unwrap());
    assert_eq!(body(shop.get(&path).await, 200).await["stock"]["on_hand"], 8);
    let ledger = body(shop.get(&format!("{path}/ledger")).await, 200).await;
    assert_eq!(
        (&ledger["items"][0]["kind"], &ledger["items"][0]["delta_on_hand"]),
        (&json!("return"), &json!(1))
    );
    assert_eq!(body(shop.get(&order).await, 200).await["status"], "shipped", "one is with the customer");

    let rest =
        body(shop.post(&format!("{order}/returns"), &json!({"reason": "the last one"})).await, 201).await;
    assert_eq!(rest["items"][0]["quantity"], 1);
    let rest = format!("/api/returns/{}", rest["return_id"].as_str().unwrap());
    body(shop.post(&format!("{rest}/approve"), &json!({})).await, 200).await;
    body(shop.post(&format!("{rest}/receive"), &json!({})).await, 200).await;
    until(&shop, &rest, "completed").await;
    assert_eq!(body(shop.get(&order).await, 200).await["status"], "returned");
    assert_eq!(
        body(shop.get("/api/orders/status/returned").await, 200).await["items"].as_array().unwrap().len(),
        1
    );
    let more = shop.post(&format!("{order}/returns"), &json!({"reason": "again"})).await;
    problem(more, 409, "not-returnable").await;
    let cancel = shop.post(&format!("{order}/cancel"), &json!({"reason": "too late"})).await;
    problem(cancel, 409, "not-cancellable").await;
}

#[tokio::test]
async fn a_rejected_return_tells_its_customer_why() {
    let shop = TestApi::with_workers().await;
    shop.stock("TEA-1", 10).await;
    let order = shipped(&shop, "TEA-1").await;
    let requested =
        body(shop.post(&format!("{order}/returns"), &json!({"reason": "too small"})).await, 201).await;
    let path = format!("/api/returns/{}", requested["return_id"].as_str().unwrap());
    problem(shop.post(&format!("{path}/reject"), &json!({"reason": " "})).await, 422, "invalid-body").await;
    let rejected =
        body(shop.post(&format!("{path}/reject"), &json!({"reason": "it was worn"})).await, 200).await;
    assert_eq!(
        (&rejected["status"], &rejected["status_reason"]),
        (&json!("rejected"), &json!("it was worn"))
    );
    body(shop.post(&format!("{path}/reject"), &json!({"reason": "it was worn"})).await, 200).await;
    problem(shop.post(&format!("{path}/approve"), &json!({})).await, 409, "illegal-return-status").await;
}

#[tokio::test]
async fn a_wrong_return_is_refused_by_its_field() {
    let shop = TestApi::with_workers().await;
    shop.stock("TEA-1", 10).await;
    let order = shipped(&shop, "TEA-1").await;
    let returns = format!("{order}/returns");
    for (wrong, pointer) in [
        (json!({}), ""),
        (json!({"reason": ""}), "/reason"),
        (json!({"reason": "x", "items": []}), "/items"),
        (json!({"reason": "x", "items": [{"sku": "TEA-1", "quantity": 4}]}), "/items/0/quantity"),
        (json!({"reason": "x", "items": [{"sku": "POT-1", "quantity": 1}]}), "/items/0/sku"),
        (json!({"reason": "x", "items": [{"sku": "TEA-1", "quantity": 0}]}), "/items/0/quantity"),
        (json!({"reason": "x", "items": [{"sku": "TEA-1", "quantity": 1, "colour": "red"}]}), "/items/0"),
        (json!({"reason": "x", "refund": true}), ""),
    ] {
        let refused = problem(shop.post(&returns, &wrong).await, 422, "invalid-body").await;
        let found = refused["errors"][0]["pointer"].as_str().unwrap();
        assert!(found.starts_with(pointer), "{wrong}: {refused}");
    }
    let unknown = "/api/orders/0199f39f-0000-7000-8000-00000000000a/returns";
    problem(shop.post(unknown, &json!({"reason": "x"})).await, 404, "not-found").await;
    assert_eq!(body(shop.get(unknown).await, 200).await["items"], json!([]));
    let missing = "/api/returns/0199f39f-0000-7000-8000-00000000000a";
    problem(shop.get(missing).await, 404, "not-found").await;
    for action in ["approve", "receive"] {
        problem(shop.post(&format!("{missing}/{action}"), &json!({})).await, 404, "not-found").await;
    }
    problem(shop.post(&format!("{missing}/reject"), &json!({"reason": "x"})).await, 404, "not-found").await;
    problem(shop.get("/api/returns?status=lost").await, 400, "invalid-parameter").await;

    let requested = body(shop.post(&returns, &json!({"reason": "x"})).await, 201).await;
    let path = format!("/api/returns/{}", requested["return_id"].as_str().unwrap());
    body(shop.post(&format!("{path}/approve"), &json!({})).await, 200).await;
    for (wrong, pointer) in [
        (json!({"items": []}), "/items"),
        (json!({"items": [{"sku": "TEA-1", "quantity": 4}]}), "/items/0/quantity"),
        (json!({"items": [{"sku": "TEA-1", "quantity": 1, "fit_for_sale": 2}]}), "/items/0/fit_for_sale"),
        (json!({"items": [{"sku": "TEA-1", "quantity": 0}]}), "/items"),
        (json!({"items": [{"sku": "POT-1", "quantity": 1}]}), "/items/0/sku"),
    ] {
        let refused = problem(shop.post(&format!("{path}/receive"), &wrong).await, 422, "invalid-body").await;
        assert_eq!(refused["errors"][0]["pointer"], pointer, "{wrong}");
    }
    assert_eq!(body(shop.get(&path).await, 200).await["status"], "approved");
}

#[tokio::test]
async fn a_key_names_one_return_of_one_order() {
    let shop = TestApi::with_workers().await;
    shop.stock("TEA-1", 10).await;
    let (first, second) = (shipped(&shop, "TEA-1").await, shipped(&shop, "TEA-1").await);
    let send = async |order: &str, request: &Value| {
        let call = shop.request(Method::POST, &format!("{order}/returns")).json(request);
        call.header("Idempotency-Key", "same").send().await.unwrap()
    };
    let whole = json!({"reason": "too small"});
    let one = body(send(&first, &whole).await, 201).await;
    let other = body(send(&second, &whole).await, 201).await;
    assert_ne!(one["return_id"], other["return_id"]);
    problem(send(&first, &json!({"reason": "too big"})).await, 422, "idempotency-mismatch").await;
    let more = shop.post(&format!("{first}/returns"), &whole).await;
    problem(more, 422, "invalid-body").await;
}

#[tokio::test]
async fn lists_of_returns_have_pages_and_each_its_own_cursors() {
    let shop = TestApi::with_workers().await;
    shop.stock("TEA-1", 100).await;
    let order = shipped(&shop, "TEA-1").await;
    for _ in 0..3 {
        let one = json!({"reason": "too small", "items": [{"sku": "TEA-1", "quantity": 1}]});
        body(shop.post(&format!("{order}/returns"), &one).await, 201).await;
    }
    for list in
        ["/api/returns?limit=1", "/api/returns?limit=1&status=requested", &format!("{order}/returns?limit=1")]
    {
        let mut seen = std::collections::BTreeSet::new();
        let mut cursor = String::new();
        loop {
            let page = body(shop.get(&format!("{list}{cursor}")).await, 200).await;
            for item in page["items"].as_array().unwrap() {
                assert!(seen.insert(item["return_id"].as_str().unwrap().to_owned()), "{list}: twice");
            }
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(seen.len(), 3, "{list}");
        if !cursor.is_empty() {
            problem(shop.get(&format!("/api/returns?status=completed{cursor}")).await, 400, "invalid-cursor")
                .await;
        }
    }
}

#[tokio::test]
async fn a_null_list_of_what_has_arrived_is_not_all_of_it() {
    let shop = TestApi::with_workers().await;
    shop.stock("TEA-1", 10).await;
    let order = shipped(&shop, "TEA-1").await;
    let found = body(shop.post(&format!("{order}/returns"), &json!({"reason": "x"})).await, 201).await;
    let path = format!("/api/returns/{}", found["return_id"].as_str().unwrap());
    body(shop.post(&format!("{path}/approve"), &json!({})).await, 200).await;
    problem(shop.post(&format!("{path}/receive"), &json!({"items": null})).await, 422, "invalid-body").await;
}

#[tokio::test]
async fn a_signal_by_hand_can_not_name_another_as_the_actor() {
    let shop = TestApi::with_workers().await;
    shop.stock("TEA-1", 10).await;
    let order = shipped(&shop, "TEA-1").await;
    let found = body(shop.post(&format!("{order}/returns"), &json!({"reason": "x"})).await, 201).await;
    let signals = format!("/api/workflows/{}/signals/return-decided", found["workflow_id"].as_str().unwrap());
    for message in [
        json!({"approved": true, "actor": "the managing director"}),
        json!({"approved": true, "reason": "a\nb"}),
    ] {
        problem(shop.post(&signals, &json!({"message": message})).await, 422, "invalid-body").await;
    }
    body(shop.post(&signals, &json!({"message": {"approved": true}})).await, 202).await;
    let path = format!("/api/returns/{}", found["return_id"].as_str().unwrap());
    assert_eq!(until(&shop, &path, "approved").await["timeline"][1]["actor"], "return-order");
}
