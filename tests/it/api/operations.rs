//! Health, metrics, request ids.

use reqwest::Method;

use super::fixtures::{TestApi, body, generous_limits, problem};

#[tokio::test]
async fn metrics_are_labelled_with_routes_and_never_with_paths() {
    let shop = TestApi::with_workers().await;
    shop.stock("TEA-1", 3).await;
    shop.order("TEA-1", 1).await;
    let secret = "/api/orders/0199f39f-0000-7000-8000-0000000000ff";
    problem(shop.get(secret).await, 404, "not-found").await;
    problem(shop.get("/no/such/path").await, 404, "no-such-route").await;
    let text = body(shop.get("/metrics").await, 200).await;
    let text = text.as_str().unwrap();
    let line = |parts: &[&str]| text.lines().any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(
        line(&[
            "sagaline_http_requests_total{",
            "method=\"GET\"",
            "route=\"/api/orders/{order_id}\"",
            "status=\"404\""
        ]),
        "{text}"
    );
    assert!(line(&["sagaline_http_requests_total{", "route=\"unmatched\""]), "{text}");
    assert!(line(&["sagaline_http_request_duration_seconds", "route=\"/api/orders\""]), "{text}");
    assert!(line(&["sagaline_sagas{", "definition=\"place-order\"", "status=\"running\""]), "{text}");
    assert!(line(&["sagaline_queue_depth{", "queue=\"notifications\"", "state=\"due\""]), "{text}");
    assert!(line(&["sagaline_db_pool_connections_max"]), "{text}");
    assert!(line(&["process_resident_memory_bytes"]), "{text}");
    assert!(!text.contains("0000000000ff") && !text.contains("/no/such/path"), "{text}");
}

#[tokio::test]
async fn every_response_has_a_request_id_and_health_reports_each_part() {
    let shop = TestApi::without_workers(generous_limits()).await;
    let response = shop.get("/health").await;
    assert_eq!(response.headers()["x-request-id"].len(), 32);
    let health = body(response, 200).await;
    assert_eq!(health["status"], "up", "{health}");
    for part in ["database", "queue", "mail", "breakers"] {
        assert_eq!(health["parts"][part]["state"], "up", "{health}");
    }
    let missing = shop.get("/nowhere").await;
    let id = missing.headers()["x-request-id"].to_str().unwrap().to_owned();
    assert_eq!(problem(missing, 404, "no-such-route").await["trace_id"], id.as_str());
    let head = shop.request(Method::HEAD, "/health/live").send().await.unwrap();
    assert_eq!(head.status(), 200);
}
