//! `Idempotency-Key`.

use std::time::Duration;

use api::Limits;
use futures::future::join_all;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::support::{WAIT_TIMEOUT, as_owner};

use super::fixtures::{TestApi, Workers, body, generous_limits, order, problem, product};

#[tokio::test]
async fn fifty_concurrent_requests_with_one_key_place_one_order_and_get_equal_responses() {
    let shop = TestApi::with_workers().await;
    shop.stock("TEA-1", 100).await;
    let request = || async {
        let request = shop.request(Method::POST, "/api/orders").header("Idempotency-Key", "checkout-42");
        let response = request.json(&order("TEA-1", 1)).send().await.unwrap();
        let location = response.headers()["location"].to_str().unwrap().to_owned();
        let etag = response.headers()["etag"].to_str().unwrap().to_owned();
        (location, etag, body(response, 201).await)
    };
    let answers = join_all((0..50).map(|_| request())).await;
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(answers[0].0, format!("/api/orders/{}", answers[0].2["order_id"].as_str().unwrap()));
    let orders = body(shop.get("/api/orders").await, 200).await;
    assert_eq!(orders["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_key_is_bound_to_its_body_and_its_operation() {
    let shop = TestApi::with_workers().await;
    shop.stock("TEA-1", 100).await;
    let send = |path: &'static str, json: Value| {
        shop.request(Method::POST, path).header("Idempotency-Key", "k").json(&json).send()
    };
    body(send("/api/orders", order("TEA-1", 1)).await.unwrap(), 201).await;
    problem(send("/api/orders", order("TEA-1", 2)).await.unwrap(), 422, "idempotency-mismatch").await;
    body(send("/api/products", product("TEA-2", 1)).await.unwrap(), 201).await;
    let again = send("/api/products", product("TEA-2", 1)).await.unwrap();
    assert_eq!(again.headers()["idempotent-replayed"], "true");
    body(again, 201).await;
}

#[tokio::test]
async fn a_refusal_is_replayed_with_its_field_errors() {
    let shop = TestApi::with_workers().await;
    let send = || {
        shop.request(Method::POST, "/api/orders")
            .header("Idempotency-Key", "k")
            .json(&order("GONE", 1))
            .send()
    };
    let first = problem(send().await.unwrap(), 422, "invalid-body").await;
    let again = problem(send().await.unwrap(), 422, "invalid-body").await;
    assert_eq!(first["errors"], again["errors"]);
    assert_eq!(first["errors"][0]["pointer"], "/items/0/sku");
}

#[tokio::test]
async fn a_repeated_request_during_the_first_one_is_a_conflict() {
    let mut shop = TestApi::without_workers(not_waiting_for_the_first()).await;
    shop.stock("TEA-1", 100).await;
    // No worker runs yet, so the first request waits.
    let request = shop
        .request(Method::POST, "/api/orders")
        .header("Idempotency-Key", "k")
        .header("Prefer", "wait=300")
        .json(&order("TEA-1", 1));
    let send = || request.try_clone().unwrap().send();
    let first = tokio::spawn(send());
    while body(shop.get("/api/orders").await, 200).await["items"].as_array().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    let second = send().await.unwrap();
    assert_eq!(second.headers()["retry-after"], "1");
    problem(second, 409, "idempotency-in-flight").await;
    shop.start_workers();
    let first = body(first.await.unwrap().unwrap(), 201).await;
    assert_eq!(first["status"], "confirmed");
    assert_eq!(body(send().await.unwrap(), 201).await, first);
}

/// Limits under which a repeated request does not wait long for the first one.
fn not_waiting_for_the_first() -> Limits {
    Limits { replay_timeout: Duration::from_millis(300), ..generous_limits() }
}

/// Posts with a key.
async fn send(shop: &TestApi, path: &str, json: &Value) -> Response {
    shop.request(Method::POST, path).header("Idempotency-Key", "k").json(json).send().await.unwrap()
}

/// Executes a statement on the shop's database.
async fn arrange(shop: &TestApi, sql: &'static str) {
    as_owner(shop.engine.pool(), sql).await.unwrap();
}

/// Makes finishing keys fail from now on.
async fn break_closing(shop: &TestApi) {
    arrange(
        shop,
        "create function shop.broken() returns trigger language plpgsql as $$ begin raise exception 'broken'; end $$;
         create trigger broken before update on shop.idempotency_key for each row execute function shop.broken()",
    )
    .await;
}

/// Repeats the request until the first one is no longer in flight.
async fn send_until_closed(shop: &TestApi, path: &str, json: &Value) -> Response {
    let deadline = Instant::now() + WAIT_TIMEOUT;
    loop {
        let response = send(shop, path, json).await;
        if response.status() != 409 {
            return response;
        }
        assert!(Instant::now() < deadline, "the key is closed once it can be");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_response_that_could_not_be_stored_is_stored_as_soon_as_possible() {
    let shop = TestApi::without_workers(not_waiting_for_the_first()).await;
    break_closing(&shop).await;
    let tea = product("TEA-1", 1);
    let first = body(send(&shop, "/api/products", &tea).await, 201).await;
    problem(send(&shop, "/api/products", &tea).await, 409, "idempotency-in-flight").await;
    arrange(&shop, "drop trigger broken on shop.idempotency_key").await;
    let again = send_until_closed(&shop, "/api/products", &tea).await;
    assert_eq!(again.headers()["idempotent-replayed"], "true");
    assert_eq!(body(again, 201).await, first);
}

#[tokio::test]
async fn a_key_that_could_not_be_released_is_released_as_soon_as_possible() {
    let shop = TestApi::without_workers(not_waiting_for_the_first()).await;
    break_closing(&shop).await;
    arrange(
        &shop,
        "create trigger broken before insert on shop.product for each row execute function shop.broken()",
    )
    .await;
    let tea = product("TEA-1", 1);
    problem(send(&shop, "/api/products", &tea).await, 500, "internal").await;
    problem(send(&shop, "/api/products", &tea).await, 409, "idempotency-in-flight").await;
    arrange(&shop, "drop trigger broken on shop.product; drop trigger broken on shop.idempotency_key").await;
    let done = send_until_closed(&shop, "/api/products", &tea).await;
    assert!(!done.headers().contains_key("idempotent-replayed"));
    body(done, 201).await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_keys_that_can_not_be_finished() {
    let mut shop = TestApi::without_workers(generous_limits()).await;
    break_closing(&shop).await;
    body(send(&shop, "/api/products", &product("TEA-1", 1)).await, 201).await;
    timeout(WAIT_TIMEOUT, shop.close()).await.expect("it does not wait forever");
}

#[tokio::test]
async fn a_stop_finishes_keys_that_it_can_finish() {
    let mut shop = TestApi::without_workers(generous_limits()).await;
    break_closing(&shop).await;
    body(send(&shop, "/api/products", &product("TEA-1", 1)).await, 201).await;
    arrange(&shop, "drop trigger broken on shop.idempotency_key").await;
    shop.close().await;
    let status: Option<i16> = sqlx::query_scalar("select status from shop.idempotency_key")
        .fetch_one(shop.engine.pool())
        .await
        .unwrap();
    assert_eq!(status, Some(201));
}

#[tokio::test]
async fn a_resource_created_by_a_lost_request_is_found_by_the_one_that_takes_over() {
    let shop = TestApi::with(generous_limits(), Workers::None, Vec::new()).await;
    let delivery = json!({"to": "ann@example.com", "subject": "Hello", "text": "Hello."});
    let requests = [
        ("/api/products", 201, product("TEA-1", 5)),
        ("/api/orders", 201, order("TEA-1", 1)),
        ("/api/workflows", 202, json!({"definition": "deliver-notification", "input": delivery})),
        (
            "/api/workflows",
            202,
            json!({"definition": "deliver-notification", "input": delivery, "business_key": "bk"}),
        ),
    ];
    for (path, status, json) in requests {
        let first = body(send(&shop, path, &json).await, status).await;
        // As if the process had died right after the commit, more than a minute ago.
        arrange(
            &shop,
            "update shop.idempotency_key set status = null, location = null, body = null, started_at = '-infinity'",
        )
        .await;
        let again = send(&shop, path, &json).await;
        assert!(!again.headers().contains_key("idempotent-replayed"), "{path}");
        assert_eq!(body(again, status).await, first, "{path}");
        arrange(&shop, "delete from shop.idempotency_key").await;
    }
}
