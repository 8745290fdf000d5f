//! Every invalid part of a request is named, and no request is answered with 500.

use reqwest::Method;
use serde_json::{Value, json};

use super::fixtures::{TestApi, generous_limits, order, problem};

#[tokio::test]
async fn wrong_bodies_are_named_by_field() {
    let shop = TestApi::without_workers(generous_limits()).await;
    let line = |line: &str| {
        format!(
            r#"{{"customer_id":"0199f39f-0000-7000-8000-000000000001","customer_email":"a@example.com","items":[{line}]}}"#
        )
    };
    let many = vec![r#"{"sku":"X","quantity":1}"#; 101].join(",");
    let cases = [
        (String::new(), 400, "invalid-json", None),
        ("{".into(), 400, "invalid-json", None),
        ("nonsense".into(), 400, "invalid-json", None),
        ("\u{0}".into(), 400, "invalid-json", None),
        (format!("{} x", line("")), 400, "invalid-json", None),
        ("[]".into(), 422, "invalid-body", Some("")),
        ("[".repeat(100_000), 422, "invalid-body", Some("")),
        ("{}".into(), 422, "invalid-body", Some("/customer_id")),
        (line(r#"{"sku":"X"}"#), 422, "invalid-body", Some("/items/0/quantity")),
        (line(r#"{"sku":"X","quantity":"1"}"#), 422, "invalid-body", Some("/items/0/quantity")),
        (line(r#"{"sku":"X","quantity":1.5}"#), 422, "invalid-body", Some("/items/0/quantity")),
        (
            line(r#"{"sku":"X","quantity":99999999999999999999}"#),
            422,
            "invalid-body",
            Some("/items/0/quantity"),
        ),
        (line(r#"{"sku":"X","quantity":0}"#), 422, "invalid-body", Some("/items/0/quantity")),
        (line(r#"{"sku":"X","quantity":1,"colour":"red"}"#), 422, "invalid-body", Some("/items/0/colour")),
        (line(r#"{"sku":"a\u0000b","quantity":1}"#), 422, "invalid-body", Some("/items/0/sku")),
        (line(r#"["X",1]"#), 422, "invalid-body", Some("/items/0")),
        (line(r#"{"sku":"GONE","quantity":1}"#), 422, "invalid-body", Some("/items/0/sku")),
        (line(""), 422, "invalid-body", Some("/items")),
        (line(&many), 422, "invalid-body", Some("/items")),
    ];
    for (text, status, code, pointer) in cases {
        let shown: String = text.chars().take(60).collect();
        let request =
            shop.request(Method::POST, "/api/orders").header("Content-Type", "application/json").body(text);
        let problem = problem(request.send().await.unwrap(), status, code).await;
        assert_eq!(problem["errors"][0]["pointer"].as_str(), pointer, "{shown}: {problem}");
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_with_and_without_a_declared_length() {
    let shop = TestApi::without_workers(generous_limits()).await;
    let large = "x".repeat(256 * 1024 + 1);
    let post = || shop.request(Method::POST, "/api/orders").header("Content-Type", "application/json");
    problem(post().body(large).send().await.unwrap(), 413, "body-too-large").await;
    let mut text = "POST /api/orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                    Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        .to_owned();
    text += &format!("10000\r\n{}\r\n", "x".repeat(0x1_0000)).repeat(5);
    let answer = super::sockets::exchange(shop.address, text.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("body-too-large"), "{answer}");
}

#[tokio::test]
async fn wrong_paths_methods_types_and_parameters_are_problems_too() {
    let shop = TestApi::without_workers(generous_limits()).await;
    problem(shop.get("/nowhere").await, 404, "no-such-route").await;
    let wrong_method = shop.request(Method::DELETE, "/api/orders").send().await.unwrap();
    let mut allowed: Vec<_> =
        wrong_method.headers()["allow"].to_str().unwrap().split(',').map(str::to_owned).collect();
    allowed.sort();
    assert_eq!(allowed, ["GET", "HEAD", "POST"]);
    problem(wrong_method, 405, "method-not-allowed").await;
    let invented = shop.request(Method::from_bytes(b"BREW").unwrap(), "/api/orders").send().await.unwrap();
    problem(invented, 405, "method-not-allowed").await;
    let text = shop.request(Method::POST, "/api/orders").body("{}").send().await.unwrap();
    problem(text, 415, "unsupported-media-type").await;

    let parameters = [
        ("/api/orders/no-uuid", "order_id"),
        ("/api/orders/%00", "order_id"),
        ("/api/orders/0199F39F00007000800000000000000a", "order_id"),
        ("/api/orders?colour=red", "colour"),
        ("/api/orders?limit=0", "limit"),
        ("/api/orders?limit=201", "limit"),
        ("/api/orders?limit=1&limit=2", "limit"),
        ("/api/orders?status=lost", "status"),
        ("/api/orders?customer_id=7", "customer_id"),
        ("/api/orders?created_after=yesterday", "created_after"),
        ("/api/orders?created_after=-5000-01-01T00:00:00Z", "created_after"),
        ("/api/orders/status/pending?created_before=-5000-01-01T00:00:00Z", "created_before"),
        ("/api/workflows?created_after=-5000-01-01T00:00:00Z", "created_after"),
        ("/api/dead-jobs?died_before=-5000-01-01T00:00:00Z", "died_before"),
        ("/api/dead-jobs/archive?died_after=-5000-01-01T00:00:00Z", "died_after"),
        ("/api/dead-jobs/summary?died_before=%2B200000-01-01T00:00:00Z", "died_before"),
        ("/api/audit?created_after=-5000-01-01T00:00:00Z", "created_after"),
        ("/api/orders/status/lost", "status"),
        ("/api/products?search=a%00b", "search"),
        ("/api/workflow-definitions?x=1", "x"),
    ];
    for (path, parameter) in parameters {
        let problem = problem(shop.get(path).await, 400, "invalid-parameter").await;
        assert_eq!(problem["errors"][0]["parameter"], parameter, "{path}: {problem}");
        assert_eq!(problem["instance"].as_str().unwrap(), path.split('?').next().unwrap());
    }
    problem(shop.get("/api/orders?cursor=AAAA").await, 400, "invalid-cursor").await;
    for path in
        ["/api/orders/", "/api/products/", "/api/notifications/", "/api/workflows/", "/api/dead-jobs/"]
    {
        let path = format!("{path}0199f39f-0000-7000-8000-00000000000a");
        problem(shop.get(&path).await, 404, "not-found").await;
    }
    problem(shop.get("/api/workflow-definitions/a%00b").await, 400, "invalid-parameter").await;
    problem(shop.get("/api/workflow-definitions/make-gold").await, 404, "not-found").await;
}

#[tokio::test]
async fn an_impossible_time_is_refused_in_parameters_and_bodies() {
    let shop = TestApi::without_workers(generous_limits()).await;
    for action in ["retry", "discard"] {
        let ask = async |time: &str| {
            let body = json!({"filter": {"died_before": time}, "dry_run": true, "reason": "test"});
            shop.post(&format!("/api/dead-jobs/{action}"), &body).await
        };
        let problem = problem(ask("-5000-01-01T00:00:00Z").await, 422, "invalid-body").await;
        assert_eq!(problem["errors"][0]["pointer"], "/filter/died_before", "{problem}");
        for extreme in ["0000-01-01T00:00:00+23:59", "9999-12-31T23:59:60-23:59"] {
            assert_eq!(ask(extreme).await.status(), 200, "{extreme}");
        }
    }
}

#[tokio::test]
async fn wrong_and_too_many_headers_are_refused() {
    let shop = TestApi::without_workers(generous_limits()).await;
    for (name, value) in [
        ("Idempotency-Key", "x".repeat(256)),
        ("Idempotency-Key", String::new()),
        ("X-Actor", "x".repeat(65)),
        ("X-Actor", "ü".into()),
    ] {
        let request = shop.request(Method::POST, "/api/orders").header(name, &value).json(&order("X", 1));
        let problem = problem(request.send().await.unwrap(), 400, "invalid-header").await;
        assert_eq!(problem["errors"][0]["header"], name);
    }
    let large = shop.request(Method::GET, "/api/orders").header("X-Large", "x".repeat(20_000));
    problem(large.send().await.unwrap(), 431, "headers-too-large").await;
    let mut many = shop.request(Method::GET, "/api/orders");
    for nth in 0..80 {
        many = many.header(format!("X-{nth}"), "x");
    }
    problem(many.send().await.unwrap(), 431, "headers-too-large").await;
}

#[tokio::test]
async fn wrong_products_and_stock_changes_are_named_by_field() {
    let shop = TestApi::without_workers(generous_limits()).await;
    let id = shop.stock("TEA-1", 5).await["product_id"].as_str().unwrap().to_owned();
    let cases: [(Value, u16, &str); 8] = [
        (json!({"reason": "count"}), 422, "/set"),
        (json!({"set": 1, "adjust": 1, "reason": "count"}), 422, "/adjust"),
        (json!({"set": -1, "reason": "count"}), 422, "/set"),
        (json!({"adjust": i64::MAX, "reason": "count"}), 422, "/adjust"),
        (json!({"set": 1}), 422, "/reason"),
        (json!({"set": 1, "reason": "x".repeat(501)}), 422, "/reason"),
        (json!({"set": 1, "reason": ""}), 422, "/reason"),
        (json!({"adjust": 1, "reason": " "}), 422, "/reason"),
    ];
    for (change, status, pointer) in cases {
        let response = shop.put(&format!("/api/products/{id}/stock"), &change).await;
        let problem = problem(response, status, "invalid-body").await;
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{change}");
    }
    let taken =
        shop.put(&format!("/api/products/{id}/stock"), &json!({"adjust": -6, "reason": "damaged"})).await;
    let taken = problem(taken, 409, "stock-too-low").await;
    assert_eq!(taken["detail"], "there are only 5 on hand");
    let mut new = super::fixtures::product("TEA-2", -1);
    new["currency"] = json!("AAA");
    let problem_ = problem(shop.post("/api/products", &new).await, 422, "invalid-body").await;
    let pointers: Vec<_> =
        problem_["errors"].as_array().unwrap().iter().map(|error| &error["pointer"]).collect();
    assert_eq!(pointers, ["/currency", "/initial_stock"]);
    problem(shop.post("/api/products", &super::fixtures::product("TEA-1", 1)).await, 409, "sku-taken").await;
}

/// The problem with a body that is sent as it is written.
async fn wrong(shop: &TestApi, path: &str, text: String, status: u16, code: &str) -> Value {
    let request = shop.request(Method::POST, path).header("Content-Type", "application/json").body(text);
    problem(request.send().await.unwrap(), status, code).await
}

/// Makes a body of these fields.
type Body<'a> = &'a dyn Fn(&str) -> String;

#[tokio::test]
async fn all_json_is_read_by_the_same_rules() {
    let shop = TestApi::without_workers(generous_limits()).await;
    let order = |fields: &str| {
        let id = "0199f39f-0000-7000-8000-000000000001";
        format!(r#"{{"customer_id":"{id}","customer_email":"a@example.com","items":[{fields}]}}"#)
    };
    let workflow = |fields: &str| {
        let ids = r#""order_id":"0199f39f-0000-7000-8000-000000000001""#;
        let customer =
            r#""customer_id":"0199f39f-0000-7000-8000-000000000003","customer_email":"a@example.com""#;
        format!(r#"{{"definition":"place-order","input":{{{ids},{customer},"items":[{fields}]}}}}"#)
    };
    let mail = |fields: &str| {
        format!(
            r#"{{"to":"a@example.com","template":"low-stock","variables":{{"products":[{fields}],"more":0}}}}"#
        )
    };
    let all: [(&str, &str, Body<'_>, &str, &str); 3] = [
        ("/api/orders", "/items/0", &order, r#""sku":"TEA-1""#, "quantity"),
        ("/api/workflows", "/input/items/0", &workflow, r#""sku":"TEA-1""#, "quantity"),
        ("/api/notifications", "/variables/products/0", &mail, r#""sku":"TEA-1","threshold":1"#, "available"),
    ];
    for (path, place, body, rest, number) in all {
        let with = |fields: &str| body(&format!("{{{rest},{fields}}}"));
        for (fields, code) in [
            (format!(r#""{number}":1,"{number}":2"#), "duplicate-field"),
            (format!(r#""{number}":1.5"#), "invalid"),
            (format!(r#""{number}":99999999999999999999999"#), "invalid"),
        ] {
            let problem = wrong(&shop, path, with(&fields), 422, "invalid-body").await;
            let error = &problem["errors"][0];
            let expected = (json!(format!("{place}/{number}")), json!(code));
            assert_eq!(
                (error["pointer"].clone(), error["code"].clone()),
                expected,
                "{path} {fields}: {problem}"
            );
        }
        let nul = wrong(&shop, path, body("{\"sku\":\"a\\u0000\"}"), 422, "invalid-body").await;
        assert_eq!(nul["errors"][0]["pointer"], format!("{place}/sku"), "{nul}");
        // A number without a fraction is an integer, so only what comes after the reading can be wrong.
        for integer in ["2.0", "2e0"] {
            let request = shop.request(Method::POST, path).header("Content-Type", "application/json");
            let answer = request.body(with(&format!(r#""{number}":{integer}"#))).send().await.unwrap();
            let (status, text) = (answer.status(), answer.text().await.unwrap());
            assert!(status == 201 || text.contains("TEA-1"), "{path} {integer}: {status} {text}");
        }
    }
}

#[tokio::test]
async fn a_problem_repeats_little_of_its_request() {
    let shop = TestApi::without_workers(generous_limits()).await;
    let name = "x".repeat(250_000);
    let bulk = "x".repeat(4_000_000);
    let many: Vec<_> = (0..2_000).map(|nth| format!("\"{nth}\":1,\"{nth}\":1")).collect();
    for (path, text) in [
        ("/api/orders", format!("{{\"{name}\":1}}")),
        ("/api/products/bulk", format!("{{\"{bulk}\":1}}")),
        ("/api/products/bulk", format!("{{\"items\":[{{\"sku\":\"A\",\"{bulk}\":1}}]}}")),
        ("/api/workflows", format!("{{\"definition\":\"{name}\",\"input\":{{}}}}")),
        (
            "/api/workflows",
            format!("{{\"definition\":\"cancel-order\",\"input\":{{\"{name}\":\"{name:.9}\"}}}}"),
        ),
        ("/api/notifications", format!("{{\"to\":\"a@example.com\",\"template\":\"{name}\"}}")),
        ("/api/orders", format!("{{{}}}", many.join(","))),
    ] {
        let request = shop.request(Method::POST, path).header("Content-Type", "application/json").body(text);
        let answer = request.send().await.unwrap().text().await.unwrap();
        assert!(answer.contains("more"), "{path}: {answer:.200}");
        assert!(answer.len() < 32_000, "{path}: {} bytes", answer.len());
    }
    let parameters: Vec<_> = (0..1_000).map(|nth| format!("p{nth}=1")).collect();
    let answer = shop.get(&format!("/api/orders?{}", parameters.join("&"))).await;
    let problem = problem(answer, 400, "invalid-parameter").await;
    assert_eq!(problem["errors"].as_array().unwrap().len(), 100);
}
