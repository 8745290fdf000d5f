//! Products and their stock over HTTP.

use api::Limits;
use reqwest::Method;
use serde_json::{Value, json};

use super::fixtures::{TestApi, body, generous_limits, problem, product};

fn update(name: &str, threshold: i64) -> Value {
    json!({"name": name, "category": "tea", "price": 1390, "currency": "EUR", "low_stock_threshold": threshold})
}

#[tokio::test]
async fn a_wrong_change_of_a_product_names_every_field_and_changes_nothing() {
    let shop = TestApi::without_workers(generous_limits()).await;
    let id = shop.stock("TEA-1", 10).await["product_id"].as_str().unwrap().to_owned();
    let path = format!("/api/products/{id}");
    let wrong =
        json!({"name": "a\nb", "category": "", "price": -1, "currency": "eur", "low_stock_threshold": -1});
    let refused = problem(shop.put(&path, &wrong).await, 422, "invalid-body").await;
    let pointers: Vec<_> = refused["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["pointer"].as_str().unwrap())
        .collect();
    assert_eq!(pointers, ["/name", "/category", "/price", "/currency", "/low_stock_threshold"]);
    let sku = json!({"sku": "TEA-2", "name": "A", "category": "a", "price": 1, "currency": "EUR"});
    let refused = problem(shop.put(&path, &sku).await, 422, "invalid-body").await;
    assert_eq!(refused["errors"][0]["pointer"], "/sku");
    let missing = "/api/products/0199f3a0-0000-7000-8000-000000000000";
    problem(shop.put(missing, &update("A", 1)).await, 404, "not-found").await;
    assert_eq!(body(shop.get(&path).await, 200).await["name"], "TEA-1 of the best");
}

#[tokio::test]
async fn a_product_is_changed_only_with_its_current_version() {
    let shop = TestApi::without_workers(generous_limits()).await;
    let id = shop.stock("TEA-1", 10).await["product_id"].as_str().unwrap().to_owned();
    let path = format!("/api/products/{id}");
    let etag = shop.get(&path).await.headers()["etag"].clone();
    let put = async |name: &str, etag: &reqwest::header::HeaderValue| {
        let request = shop.request(Method::PUT, &path).header("If-Match", etag).header("X-Actor", "anna");
        request.json(&update(name, 5)).send().await.unwrap()
    };
    let changed = put("Sencha", &etag).await;
    let new = changed.headers()["etag"].clone();
    assert_ne!(new, etag);
    let changed = body(changed, 200).await;
    assert_eq!((&changed["name"], &changed["price"]), (&json!("Sencha"), &json!(1390)));
    assert_eq!(
        (&changed["stock"]["on_hand"], &changed["stock"]["low_stock_threshold"]),
        (&json!(10), &json!(5))
    );
    problem(put("Gyokuro", &etag).await, 412, "precondition-failed").await;
    let same = put("Sencha", &new).await;
    assert_eq!(same.headers()["etag"], new);
}

#[tokio::test]
async fn a_ledger_is_read_page_by_page_newest_first() {
    let shop = TestApi::with_workers().await;
    let id = shop.stock("TEA-1", 10).await["product_id"].as_str().unwrap().to_owned();
    let other = shop.stock("TEA-2", 10).await["product_id"].as_str().unwrap().to_owned();
    let order = shop.order("TEA-1", 2).await;
    for nth in 0..3 {
        let change = json!({"adjust": -1, "reason": format!("damaged {nth}")});
        body(shop.put(&format!("/api/products/{id}/stock"), &change).await, 200).await;
    }
    let mut entries = Vec::new();
    let mut path = format!("/api/products/{id}/ledger?limit=2");
    loop {
        let page = body(shop.get(&path).await, 200).await;
        entries.extend(page["items"].as_array().unwrap().clone());
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        problem(
            shop.get(&format!("/api/products/{other}/ledger?cursor={cursor}")).await,
            400,
            "invalid-cursor",
        )
        .await;
        path = format!("/api/products/{id}/ledger?limit=2&cursor={cursor}");
    }
    let refused: Vec<_> = entries.iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
    assert_eq!(refused, ["adjust", "adjust", "adjust", "reserve", "initial"]);
    assert_eq!(entries[0]["reason"], "damaged 2");
    assert_eq!(entries[3]["order_id"], order["order_id"]);
    let on_hand: i64 = entries.iter().map(|entry| entry["delta_on_hand"].as_i64().unwrap()).sum();
    assert_eq!(on_hand, 7, "the sums are the levels");
    let missing = "/api/products/0199f3a0-0000-7000-8000-000000000000/ledger";
    problem(shop.get(missing).await, 404, "not-found").await;
}

#[tokio::test]
async fn products_are_filtered_by_category_and_low_stock() {
    let shop = TestApi::without_workers(generous_limits()).await;
    for (sku, category, stock) in
        [("A", "tea & more", 9), ("B", "tea & more", 1), ("C", "cups", 2), ("D", "cups", 3)]
    {
        let mut new = product(sku, stock);
        new["category"] = category.into();
        body(shop.post("/api/products", &new).await, 201).await;
    }
    let skus = |page: &Value| -> Vec<String> {
        page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["sku"].as_str().unwrap().to_owned())
            .collect()
    };
    let page = body(shop.get("/api/products/category/tea%20%26%20more?limit=1").await, 200).await;
    assert_eq!(skus(&page), ["B"]);
    let cursor = page["next_cursor"].as_str().unwrap();
    let next = format!("/api/products/category/tea%20%26%20more?limit=1&cursor={cursor}");
    assert_eq!(skus(&body(shop.get(&next).await, 200).await), ["A"]);
    problem(shop.get(&format!("/api/products/category/cups?cursor={cursor}")).await, 400, "invalid-cursor")
        .await;
    assert!(skus(&body(shop.get("/api/products/category/none").await, 200).await).is_empty());
    let low = body(shop.get("/api/products/low-stock?limit=1").await, 200).await;
    assert_eq!(skus(&low), ["C"]);
    let cursor = low["next_cursor"].as_str().unwrap();
    let rest = body(shop.get(&format!("/api/products/low-stock?cursor={cursor}")).await, 200).await;
    assert_eq!((skus(&rest), &rest["next_cursor"]), (vec!["B".to_owned()], &Value::Null));
    problem(shop.get("/api/products/low-stock?limit=0").await, 400, "invalid-parameter").await;
}

#[tokio::test]
async fn a_bulk_upsert_reports_each_product_by_its_index() {
    let shop = TestApi::without_workers(generous_limits()).await;
    shop.stock("TEA-1", 10).await;
    let mut wrong = product("TEA-3", 1);
    (wrong["price"], wrong["name"]) = ((-1).into(), "".into());
    let batch = json!({"items": [product("TEA-1", 99), product("TEA-2", 5), wrong, product("TEA-2", 5)]});
    let result = body(shop.post("/api/products/bulk", &batch).await, 200).await;
    let items = result["items"].as_array().unwrap();
    let outcomes: Vec<_> = items.iter().map(|item| item["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["unchanged", "created", "refused", "refused"]);
    let errors = items[2]["problem"]["errors"].as_array().unwrap();
    let pointers: Vec<_> = errors.iter().map(|error| error["pointer"].as_str().unwrap()).collect();
    assert_eq!(pointers, ["/items/2/name", "/items/2/price"]);
    assert_eq!(items[3]["problem"]["errors"][0]["code"], "duplicate-sku");
    assert!(items[0].get("problem") == Some(&Value::Null) && items[2]["product_id"].is_null());
    let path = format!("/api/products/{}", items[0]["product_id"].as_str().unwrap());
    assert_eq!(
        body(shop.get(&path).await, 200).await["stock"]["on_hand"],
        10,
        "stock is not changed by that"
    );
}

#[tokio::test]
async fn a_malformed_product_of_a_bulk_upsert_is_refused_and_the_others_are_stored() {
    let shop = TestApi::without_workers(generous_limits()).await;
    let odd = |name: &str, value: Value| {
        let mut odd = product("ODD", 1);
        odd[name] = value;
        odd
    };
    let mut incomplete = product("ODD", 1);
    incomplete.as_object_mut().unwrap().remove("price");
    let cases = [
        (incomplete, "/price", "missing-field", json!("ODD")),
        (odd("price", "ten".into()), "/price", "invalid", json!("ODD")),
        (odd("colour", "red".into()), "/colour", "unknown-field", json!("ODD")),
        (odd("name", "a\0b".into()), "/name", "nul", json!("ODD")),
        (odd("sku", 7.into()), "/sku", "invalid", Value::Null),
        (odd("currency", "AAA".into()), "/currency", "not-a-currency", json!("ODD")),
        (json!(["ODD", 1]), "", "invalid", Value::Null),
        (json!(null), "", "invalid", Value::Null),
    ];
    let items: Vec<Value> =
        cases.iter().map(|(item, ..)| item.clone()).chain([product("TEA-1", 5)]).collect();
    let result = body(shop.post("/api/products/bulk", &json!({"items": items})).await, 200).await;
    let results = result["items"].as_array().unwrap();
    assert_eq!(results.len(), 9);
    for (nth, (item, pointer, code, sku)) in cases.iter().enumerate() {
        let refused = &results[nth];
        assert_eq!((&refused["outcome"], &refused["sku"]), (&json!("refused"), sku), "{item}: {refused}");
        let error = &refused["problem"]["errors"][0];
        let place = format!("/items/{nth}{pointer}");
        assert_eq!((&error["pointer"], &error["code"]), (&json!(place), &json!(code)), "{item}: {refused}");
    }
    assert_eq!(results[8]["outcome"], "created");
}

#[tokio::test]
async fn a_bulk_upsert_of_prices_keeps_the_low_stock_thresholds() {
    let shop = TestApi::without_workers(generous_limits()).await;
    let id = shop.stock("TEA-1", 10).await["product_id"].as_str().unwrap().to_owned();
    let prices = json!({"items": [
        {"sku": "TEA-1", "name": "Green tea", "category": "tea", "price": 1390, "currency": "JPY"}
    ]});
    let result = body(shop.post("/api/products/bulk", &prices).await, 200).await;
    assert_eq!(result["items"][0]["outcome"], "updated");
    let now = body(shop.get(&format!("/api/products/{id}")).await, 200).await;
    assert_eq!((&now["price"], &now["stock"]["low_stock_threshold"]), (&json!(1390), &json!(2)));
}

#[tokio::test]
async fn a_malformed_or_too_large_bulk_upsert_is_refused_as_a_whole() {
    let limits = Limits { bulk_body_bytes: 300 * 1024, ..generous_limits() };
    let shop = TestApi::without_workers(limits).await;
    let post = async |batch: &Value| shop.post("/api/products/bulk", batch).await;
    for count in [0, 1001] {
        let batch = json!({"items": vec![product("A", 1); count]});
        let refused = problem(post(&batch).await, 422, "invalid-body").await;
        assert_eq!(refused["errors"][0]["pointer"], "/items");
    }
    for (batch, pointer) in [
        (json!({"items": {}}), "/items"),
        (json!({"items": "A"}), "/items"),
        (json!({}), "/items"),
        (json!({"items": [product("A", 1)], "dry_run": true}), "/dry_run"),
        (json!([product("A", 1)]), ""),
    ] {
        let refused = problem(post(&batch).await, 422, "invalid-body").await;
        assert_eq!(refused["errors"][0]["pointer"], pointer, "{batch}");
    }
    let request = shop.request(Method::POST, "/api/products/bulk").header("Content-Type", "application/json");
    problem(request.body(r#"{"items":[{"sku":"A"},]}"#).send().await.unwrap(), 400, "invalid-json").await;
    let mut long = product("C", 1);
    long["description"] = "x".repeat(300 * 1024).into();
    problem(post(&json!({"items": [long]})).await, 413, "body-too-large").await;
    // This body is larger than other bodies may be, and smaller than one may be here.
    let many: Vec<Value> = (0..80)
        .map(|nth| {
            let mut product = product(&format!("TEA-{nth}"), 1);
            product["description"] = "x".repeat(3400).into();
            product
        })
        .collect();
    assert_eq!(body(post(&json!({"items": many})).await, 200).await["items"].as_array().unwrap().len(), 80);
}

#[tokio::test]
async fn a_bulk_upsert_with_an_idempotency_key_is_replayed() {
    let shop = TestApi::without_workers(generous_limits()).await;
    let batch = json!({"items": [product("TEA-1", 5)]});
    let post = async || {
        let request = shop.request(Method::POST, "/api/products/bulk").header("Idempotency-Key", "import-1");
        request.json(&batch).send().await.unwrap()
    };
    let first = body(post().await, 200).await;
    let second = post().await;
    assert_eq!(second.headers()["idempotent-replayed"], "true");
    assert_eq!(body(second, 200).await, first);
    assert_eq!(first["items"][0]["outcome"], "created");
    let again = body(shop.post("/api/products/bulk", &batch).await, 200).await;
    assert_eq!(again["items"][0]["outcome"], "unchanged");
}

#[tokio::test]
async fn a_product_is_created_once_and_found_at_its_location() {
    let shop = TestApi::without_workers(generous_limits()).await;
    let made = shop.post("/api/products", &product("TEA-1", 10)).await;
    let location = made.headers()["location"].to_str().unwrap().to_owned();
    let made = body(made, 201).await;
    assert_eq!(location, format!("/api/products/{}", made["product_id"].as_str().unwrap()));
    let stock = json!({"on_hand": 10, "reserved": 0, "available": 10, "low_stock_threshold": 2});
    assert_eq!((&made["stock"], &made["price"]), (&stock, &json!(1290)));
    assert_eq!(body(shop.get(&location).await, 200).await, made);
    problem(shop.post("/api/products", &product("TEA-1", 10)).await, 409, "sku-taken").await;
}
