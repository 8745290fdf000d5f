//! Versions: `ETag`, `If-Match` and `If-None-Match`.

use reqwest::Method;
use serde_json::json;

use super::fixtures::{TestApi, body, problem};

#[tokio::test]
async fn a_change_of_an_outdated_version_is_refused() {
    let shop = TestApi::with_workers().await;
    let id = shop.stock("TEA-1", 10).await["product_id"].as_str().unwrap().to_owned();
    let path = format!("/api/products/{id}");
    let stock = format!("{path}/stock");
    let etag = shop.get(&path).await.headers()["etag"].to_str().unwrap().to_owned();
    let change = |condition: &str| {
        let request = shop.request(Method::PUT, &stock).header("If-Match", condition);
        request.json(&json!({"adjust": 1, "reason": "found"})).send()
    };
    let changed = change(&etag).await.unwrap();
    let new = changed.headers()["etag"].to_str().unwrap().to_owned();
    assert_ne!(new, etag);
    assert_eq!(body(changed, 200).await["stock"]["on_hand"], 11);
    for stale in [etag.as_str(), &format!("W/{new}"), "\"foreign\"", &format!("{etag}, \"v999\"")] {
        problem(change(stale).await.unwrap(), 412, "precondition-failed").await;
    }
    for malformed in ["v1", "\"v1", "*, \"v1\""] {
        problem(change(malformed).await.unwrap(), 400, "invalid-header").await;
    }
    body(change(&format!("\"v999\", {new}")).await.unwrap(), 200).await;
    assert_eq!(body(change("*").await.unwrap(), 200).await["stock"]["on_hand"], 13);
}

#[tokio::test]
async fn a_version_that_the_caller_has_is_answered_with_304() {
    let shop = TestApi::with_workers().await;
    shop.stock("TEA-1", 10).await;
    let order = shop.order("TEA-1", 1).await;
    let path = format!("/api/orders/{}", order["order_id"].as_str().unwrap());
    let etag = shop.get(&path).await.headers()["etag"].clone();
    let again = shop.request(Method::GET, &path).header("If-None-Match", &etag).send().await.unwrap();
    assert_eq!((again.status().as_u16(), again.headers()["etag"].clone()), (304, etag.clone()));
    assert!(again.text().await.unwrap().is_empty());

    let moved = shop.request(Method::PUT, &format!("{path}/status")).header("If-Match", &etag);
    body(moved.json(&json!({"status": "processing"})).send().await.unwrap(), 200).await;
    let stale = shop.request(Method::PUT, &format!("{path}/status")).header("If-Match", &etag);
    problem(stale.json(&json!({"status": "shipped"})).send().await.unwrap(), 412, "precondition-failed")
        .await;
    let cancel = shop.request(Method::POST, &format!("{path}/cancel")).header("If-Match", &etag);
    problem(cancel.json(&json!({"reason": "x"})).send().await.unwrap(), 412, "precondition-failed").await;
}
