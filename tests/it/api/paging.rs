//! Cursors of lists.

use std::collections::BTreeSet;

use super::fixtures::{TestApi, body, generous_limits, problem};

#[tokio::test]
async fn pages_are_complete_and_stable_while_rows_are_added() {
    let shop = TestApi::without_workers(generous_limits()).await;
    let mut expected = BTreeSet::new();
    for nth in 0..23 {
        expected
            .insert(shop.stock(&format!("TEA-{nth}"), 1).await["product_id"].as_str().unwrap().to_owned());
    }
    let mut seen = Vec::new();
    let mut path = "/api/products?limit=5".to_owned();
    loop {
        let page = body(shop.get(&path).await, 200).await;
        let items = page["items"].as_array().unwrap();
        assert!((1..=5).contains(&items.len()));
        seen.extend(items.iter().map(|item| item["product_id"].as_str().unwrap().to_owned()));
        shop.stock(&format!("NEW-{}", seen.len()), 1).await;
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/api/products?limit=5&cursor={cursor}");
    }
    let distinct: BTreeSet<_> = seen.iter().cloned().collect();
    assert_eq!((seen.len(), distinct), (23, expected));
    assert!(seen.is_sorted_by(|one, next| one > next), "newest first");
}

#[tokio::test]
async fn a_cursor_belongs_to_its_filter() {
    let shop = TestApi::without_workers(generous_limits()).await;
    for nth in 0..3 {
        shop.stock(&format!("TEA-{nth}"), 1).await;
    }
    let page = body(shop.get("/api/products?limit=1&category=tea").await, 200).await;
    let cursor = page["next_cursor"].as_str().unwrap();
    body(shop.get(&format!("/api/products?limit=2&category=tea&cursor={cursor}")).await, 200).await;
    for other in ["limit=1", "limit=1&category=coffee"] {
        let response = shop.get(&format!("/api/products?{other}&cursor={cursor}")).await;
        problem(response, 400, "invalid-cursor").await;
    }
    problem(shop.get(&format!("/api/orders?cursor={cursor}")).await, 400, "invalid-cursor").await;
    let found = body(shop.get("/api/products?search=tea-1%20OF").await, 200).await;
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
    assert!(found["next_cursor"].is_null());
}
