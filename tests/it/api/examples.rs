//! The examples of the contract are requests that can be sent.

use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::{
    contract::{DOCUMENT, store_earlier_graph, text},
    fixtures::{TestApi, body, order},
};

/// As Swagger UI sends it: with the examples of the parameters and of the body.
async fn send_example(shop: &TestApi, method: &Method, path: &str, operation: &Value) -> Vec<Response> {
    let mut url = path.to_owned();
    let mut query = Vec::new();
    let mut headers = Vec::new();
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let name = text(&parameter["name"]);
        let Some(example) = parameter.get("example").or_else(|| parameter["schema"].get("example")) else {
            continue;
        };
        match text(&parameter["in"]) {
            "path" => url = url.replace(&format!("{{{name}}}"), text(example)),
            "query" => query.push(format!("{name}={}", text(example))),
            _ => headers.push((name, text(example))),
        }
    }
    if !query.is_empty() {
        url = format!("{url}?{}", query.join("&"));
    }
    let content = &operation["requestBody"]["content"]["application/json"];
    let several =
        content["examples"].as_object().into_iter().flatten().map(|(_, example)| Some(&example["value"]));
    let bodies: Vec<_> = content.get("example").map(Some).into_iter().chain(several).collect();
    let mut responses = Vec::new();
    for json in if bodies.is_empty() { vec![None] } else { bodies } {
        let request = shop.request(method.clone(), &url);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        responses
            .push(json.map_or(request.try_clone().unwrap(), |json| request.json(json)).send().await.unwrap());
    }
    responses
}

#[tokio::test]
async fn examples_can_be_sent_twice() {
    let shop = TestApi::with_workers().await;
    shop.engine.store_graphs().await.unwrap();
    store_earlier_graph(shop.engine.pool(), "g1:9f6c2ab1d0e84c11").await;
    let ids = [
        (
            "{order_id}",
            body(shop.post("/api/orders", &example_order(&shop).await).await, 201).await["order_id"].clone(),
        ),
        ("{product_id}", shop.stock("TEA-9", 99).await["product_id"].clone()),
        ("{customer_id}", json!("0199f39f-0000-7000-8000-000000000001")),
        ("{category}", json!("tea")),
        ("{status}", json!("cancelled")),
    ];
    // What a second call finds changed, because the first one did what it should.
    let expected = [
        "refused",
        "sku-taken",
        "illegal-status",
        "not-cancellable",
        "not-returnable",
        "stock-too-low",
        "stock-reserved",
        "not-found",
    ];
    for (path, item) in DOCUMENT["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if path == "/api/events" {
                continue;
            }
            let url = ids.iter().fold(path.clone(), |url, (name, id)| url.replace(name, text(id)));
            let url = url.replace("notifications/status/cancelled", "notifications/status/sent");
            let missing = "0199f39f-0000-7000-8000-0000000000ff";
            let url = ["{notification_id}", "{return_id}", "{workflow_id}", "{dead_job_id}"]
                .into_iter()
                .fold(url, |url, name| url.replace(name, missing));
            let method: Method = method.to_uppercase().parse().unwrap();
            for _ in 0..2 {
                for response in send_example(&shop, &method, &url, operation).await {
                    let status = response.status().as_u16();
                    let answer = body(response, status).await;
                    let code = answer["code"].as_str().unwrap_or_default();
                    assert!(status < 300 || expected.contains(&code), "{method} {path} {status}: {answer}");
                }
            }
        }
    }
}

/// The order of the example, for which there is a product.
async fn example_order(shop: &TestApi) -> Value {
    shop.stock("TEA-1", 1000).await;
    order("TEA-1", 1)
}
