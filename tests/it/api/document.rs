//! The OpenAPI document and its user interface.

use std::path::Path;

use serde_json::Value;

use super::fixtures::{TestApi, body, generous_limits};

#[test]
fn the_openapi_document_in_the_repository_matches_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/openapi.json");
    let kept = std::fs::read_to_string(path).unwrap();
    assert!(
        kept == api::openapi_json(),
        "openapi/openapi.json is stale: run `sagaline openapi > openapi/openapi.json`"
    );
}

#[tokio::test]
async fn the_document_is_served_and_its_user_interface_needs_no_network() {
    let shop = TestApi::without_workers(generous_limits()).await;
    let served = body(shop.get("/openapi.json").await, 200).await;
    assert_eq!(served, serde_json::from_str::<Value>(&api::openapi_json()).unwrap());
    let page = body(shop.get("/docs/").await, 200).await;
    let page = page.as_str().unwrap();
    assert!(page.contains("swagger-ui"), "{page}");
    assert!(!page.contains("https://"), "{page}");
    body(shop.get("/docs").await, 200).await;
    for file in ["swagger-ui-bundle.js", "swagger-ui.css", "swagger-initializer.js"] {
        body(shop.get(&format!("/docs/{file}")).await, 200).await;
    }
}
