//! The OpenAPI document and its user interface.

use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};

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

#[tokio::test]
async fn the_document_is_compressed_and_not_sent_to_those_who_have_it() {
    let shop = TestApi::without_workers(generous_limits()).await;
    let whole = shop.get("/openapi.json").await;
    assert!(whole.headers().get("content-encoding").is_none());
    let etag = whole.headers()["etag"].clone();
    let length = whole.bytes().await.unwrap().len();
    let ask = |name: &'static str, value: &str| {
        shop.request(Method::GET, "/openapi.json").header(name, value).send()
    };
    let compressed = ask("Accept-Encoding", "gzip, br").await.unwrap();
    assert_eq!(
        (&compressed.headers()["content-encoding"], &compressed.headers()["etag"]),
        (&"gzip".parse().unwrap(), &etag)
    );
    assert_eq!(compressed.headers()["vary"], "accept-encoding");
    let bytes = compressed.bytes().await.unwrap();
    assert!(bytes.starts_with(&[0x1f, 0x8b]) && bytes.len() * 5 < length, "{} of {length}", bytes.len());
    let unchanged = ask("If-None-Match", etag.to_str().unwrap()).await.unwrap();
    assert_eq!((unchanged.status().as_u16(), unchanged.headers()["etag"].clone()), (304, etag));
    assert!(unchanged.bytes().await.unwrap().is_empty());
    assert_eq!(ask("If-None-Match", "\"other\"").await.unwrap().status(), 200);
}

#[tokio::test]
async fn large_lists_are_compressed_and_have_a_tag_and_small_answers_have_neither() {
    let shop = TestApi::without_workers(generous_limits()).await;
    let list = async |tag: &str| {
        let request = shop.request(Method::GET, "/api/products?limit=200").header("Accept-Encoding", "gzip");
        request.header("If-None-Match", tag).send().await.unwrap()
    };
    let small = list("").await;
    assert!(small.headers().get("content-encoding").is_none() && small.headers().get("etag").is_none());
    for nth in 0..40 {
        shop.stock(&format!("TEA-{nth}"), 1).await;
    }
    let large = list("").await;
    assert_eq!(large.headers()["content-encoding"], "gzip");
    let tag = large.headers()["etag"].to_str().unwrap().to_owned();
    let unchanged = list(&tag).await;
    assert_eq!(unchanged.status(), 304);
    shop.stock("TEA-40", 1).await;
    let changed = list(&tag).await;
    assert_eq!(changed.status(), 200);
    assert_ne!(changed.headers()["etag"].to_str().unwrap(), tag);
    // The strong tag of a resource is for `If-Match`, and says that the body is the same byte for byte.
    let order = json!({"customer_id": "0199f39f-0000-7000-8000-000000000001", "customer_email": "a@example.com",
        "items": vec![json!({"sku": "TEA-1", "quantity": 1}); 100]});
    let placed = shop.post("/api/orders", &order).await;
    let path = placed.headers()["location"].to_str().unwrap().to_owned();
    let request = shop.request(Method::GET, &path).header("Accept-Encoding", "gzip").send().await.unwrap();
    assert!(request.headers()["etag"].to_str().unwrap().starts_with("\"v"), "{:?}", request.headers());
    assert!(request.headers().get("content-encoding").is_none());
    assert!(request.bytes().await.unwrap().len() > 8 * 1024);
}

#[tokio::test]
async fn the_first_page_says_where_to_go() {
    let shop = super::access::with_access().await;
    let home = shop.get("/").await;
    assert!(home.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
    let page = body(home, 200).await;
    for link in ["/docs/", "/openapi.json", "/health"] {
        assert!(page.as_str().unwrap().contains(&format!("href=\"{link}\"")), "{page}");
        body(shop.get(link).await, 200).await;
    }
}
