//! `Idempotency-Key`.

use futures::future::join_all;
use reqwest::Method;
use serde_json::Value;

use super::shop::{OpenShop, body, hasty, order, problem};

#[tokio::test]
async fn fifty_requests_with_one_key_at_once_make_one_order_and_get_equal_answers() {
    let shop = OpenShop::open().await;
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
    let shop = OpenShop::open().await;
    shop.stock("TEA-1", 100).await;
    let send = |path: &'static str, json: Value| {
        shop.request(Method::POST, path).header("Idempotency-Key", "k").json(&json).send()
    };
    body(send("/api/orders", order("TEA-1", 1)).await.unwrap(), 201).await;
    problem(send("/api/orders", order("TEA-1", 2)).await.unwrap(), 422, "idempotency-mismatch").await;
    body(send("/api/products", super::shop::product("TEA-2", 1)).await.unwrap(), 201).await;
    let again = send("/api/products", super::shop::product("TEA-2", 1)).await.unwrap();
    assert_eq!(again.headers()["idempotent-replayed"], "true");
    body(again, 201).await;
}

#[tokio::test]
async fn a_refusal_comes_again_with_its_fields() {
    let shop = OpenShop::open().await;
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
async fn a_request_whose_first_is_still_running_is_a_conflict() {
    let shop = OpenShop::unstaffed(hasty()).await;
    shop.stock("TEA-1", 100).await;
    // Nobody works, so that the first one waits as long as it may.
    let send = || {
        let request = shop
            .request(Method::POST, "/api/orders")
            .header("Idempotency-Key", "k")
            .header("Prefer", "wait=2");
        request.json(&order("TEA-1", 1)).send()
    };
    let first = tokio::spawn(send());
    while body(shop.get("/api/orders").await, 200).await["items"].as_array().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    let second = send().await.unwrap();
    assert_eq!(second.headers()["retry-after"], "1");
    problem(second, 409, "idempotency-in-flight").await;
    let first = body(first.await.unwrap().unwrap(), 201).await;
    assert_eq!(body(send().await.unwrap(), 201).await, first);
}
