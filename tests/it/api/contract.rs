//! Responses fit the contract: `fixtures::body` checks every response that a test of the API reads, and one test here
//! walks through all operations.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock, Mutex, atomic::Ordering},
};

use jsonschema::Validator;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::WAIT_TIMEOUT;

use super::{
    dead_jobs::with_dead_jobs,
    fixtures::{TestApi, body, generous_limits, order, problem, product},
};

pub(super) static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let mut document = serde_json::from_str(&api::openapi_json()).unwrap();
    close(&mut document);
    document
});

/// The validators of responses, by the JSON pointer of their schema.
static VALIDATORS: LazyLock<Mutex<BTreeMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

/// Allows no fields that are not documented, wherever a component is referred to and not extended.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            for (name, below) in &mut *object {
                if name == "allOf" {
                    below
                        .as_array_mut()
                        .into_iter()
                        .flatten()
                        .filter(|member| member.get("$ref").is_none())
                        .for_each(close);
                } else if !name.starts_with("example") {
                    close(below);
                }
            }
            if object.get("$ref").and_then(Value::as_str).is_some_and(|to| to.contains("/schemas/")) {
                object.insert("unevaluatedProperties".into(), false.into());
            }
        }
        Value::Array(list) => list.iter_mut().for_each(close),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn escaped(text: &str) -> String {
    text.replace('~', "~0").replace('/', "~1")
}

/// The documented path that a request's path is one of; words go before parameters.
fn template(path: &str) -> Option<&'static str> {
    let words: Vec<_> = path.split('/').collect();
    let fits = |template: &&String| {
        let parts: Vec<_> = template.split('/').collect();
        let pairs = parts.iter().zip(&words);
        parts.len() == words.len()
            && pairs.into_iter().all(|(part, word)| part.starts_with('{') || part == word)
    };
    let paths = DOCUMENT["paths"].as_object().unwrap();
    paths.keys().filter(fits).min_by_key(|template| template.matches('{').count()).map(String::as_str)
}

fn validator(pointer: &str) -> Arc<Validator> {
    let mut validators = VALIDATORS.lock().unwrap();
    let validator = validators.entry(pointer.to_owned()).or_insert_with(|| {
        let schema =
            json!({"components": DOCUMENT["components"], "allOf": [DOCUMENT.pointer(pointer).unwrap()]});
        Arc::new(jsonschema::options().should_validate_formats(true).build(&schema).unwrap())
    });
    Arc::clone(validator)
}

/// Checks that a response with JSON is one that the document has for its path and status.
pub(super) fn check(path: &str, status: u16, content_type: &str, body: &Value) {
    let content_type = content_type.split(';').next().unwrap_or_default();
    let problem = "/components/schemas/Problem".to_owned();
    let schemas: Vec<_> = match template(path) {
        // What has no operation answers with a problem.
        None if content_type == "application/problem+json" => vec![problem],
        None => return,
        // Of another service, or with another method.
        Some(_) if status == 405 || body["code"] == "no-such-route" => vec![problem],
        Some(template) => {
            let methods = DOCUMENT["paths"][template].as_object().unwrap().keys();
            let content = escaped(content_type);
            let pointers = methods.map(|method| {
                format!("/paths/{}/{method}/responses/{status}/content/{content}/schema", escaped(template))
            });
            pointers.filter(|pointer| DOCUMENT.pointer(pointer).is_some()).collect()
        }
    };
    assert!(!schemas.is_empty(), "{path} documents no {status} with {content_type}: {body}");
    let errors = |pointer: &String| -> Vec<String> {
        let validator = validator(pointer);
        validator.iter_errors(body).map(|error| format!("{}: {error}", error.instance_path())).collect()
    };
    let errors: Vec<_> = schemas.iter().map(errors).collect();
    assert!(
        errors.iter().any(Vec::is_empty),
        "{path} {status} does not fit the contract: {errors:?}\n{body}"
    );
}

#[test]
fn what_does_not_fit_the_contract_is_noticed() {
    let path = "/api/products/0199f39f-0000-7000-8000-00000000000a";
    let examples = &DOCUMENT["paths"]["/api/products/{product_id}"]["get"]["responses"]["200"]["content"];
    let good = examples["application/json"]["example"].clone();
    check(path, 200, "application/json", &good);
    let changed = |change: fn(&mut Value)| {
        let mut body = good.clone();
        change(&mut body);
        std::panic::catch_unwind(|| check(path, 200, "application/json", &body)).is_err()
    };
    assert!(changed(|body| drop(body.as_object_mut().unwrap().remove("description"))));
    assert!(changed(|body| body["stock"]["left"] = json!(1)));
    assert!(changed(|body| body["currency"] = json!("EURO")));
    assert!(changed(|body| body["name"] = Value::Null));
    assert!(std::panic::catch_unwind(|| check(path, 202, "application/json", &good)).is_err());
}

/// A walk through the API that notes which operations have answered with a success.
struct Walk {
    shop: TestApi,
    seen: BTreeSet<String>,
}

impl Walk {
    async fn call(&mut self, method: Method, path: &str, json: Option<Value>, status: u16) -> Value {
        let request = self.shop.request(method.clone(), path).header("Prefer", "wait=300");
        let request = match json {
            Some(json) => request.json(&json),
            None => request,
        };
        self.note(&method, path);
        body(request.send().await.unwrap(), status).await
    }

    fn note(&mut self, method: &Method, path: &str) {
        let path = path.split('?').next().unwrap();
        let template = template(path).unwrap_or_else(|| panic!("{path} is not in the contract"));
        self.seen.insert(format!("{} {template}", method.as_str().to_lowercase()));
    }

    async fn get(&mut self, path: &str) -> Value {
        self.call(Method::GET, path, None, 200).await
    }

    async fn post(&mut self, path: &str, json: Value, status: u16) -> Value {
        self.call(Method::POST, path, Some(json), status).await
    }

    async fn put(&mut self, path: &str, json: Value) -> Value {
        self.call(Method::PUT, path, Some(json), 200).await
    }
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[tokio::test]
async fn every_operation_answers_as_the_contract_says() {
    let (shop, repaired, jobs) = with_dead_jobs().await;
    let mut walk = Walk { shop, seen: BTreeSet::new() };
    stock_and_orders(&mut walk).await;
    notifications_and_workflows(&mut walk).await;
    dead_jobs(&mut walk, &jobs, || repaired.store(true, Ordering::SeqCst)).await;
    for path in [
        "/api/audit",
        "/api/circuit-breakers",
        "/api/processes",
        "/health",
        "/health/live",
        "/health/ready",
        "/metrics",
    ] {
        walk.get(path).await;
    }
    let stream = walk.shop.get("/api/events?after=0").await;
    walk.note(&Method::GET, "/api/events");
    assert_eq!((stream.status().as_u16(), kind(&stream)), (200, "text/event-stream"));

    let paths = DOCUMENT["paths"].as_object().unwrap();
    let all = paths.iter().flat_map(|(path, item)| {
        item.as_object().unwrap().keys().map(move |method| format!("{method} {path}"))
    });
    let left: Vec<_> = all.filter(|operation| !walk.seen.contains(operation)).collect();
    assert!(left.is_empty(), "not called: {left:?}");
}

fn kind(response: &Response) -> &str {
    response.headers()["content-type"].to_str().unwrap()
}

async fn stock_and_orders(walk: &mut Walk) {
    let created = walk.post("/api/products", product("TEA-1", 9), 201).await;
    let path = format!("/api/products/{}", text(&created["product_id"]));
    walk.get(&path).await;
    walk.put(
        &path,
        json!({"name": "Tea", "category": "tea", "price": 1, "currency": "EUR", "low_stock_threshold": 99}),
    )
    .await;
    walk.put(&format!("{path}/stock"), json!({"adjust": 1, "reason": "found"})).await;
    walk.get(&format!("{path}/ledger")).await;
    let one = json!({"sku": "TEA-2", "name": "Tea", "category": "tea", "price": 1, "currency": "EUR"});
    let bulk = walk.post("/api/products/bulk", json!({"items": [one, one, {}]}), 200).await;
    assert_eq!((&bulk["items"][0]["outcome"], &bulk["items"][2]["sku"]), (&json!("created"), &Value::Null));
    for list in ["/api/products", "/api/products/category/tea", "/api/products/low-stock"] {
        assert!(walk.get(list).await["items"][0].is_object(), "{list} is empty");
    }

    let mut orders = Vec::new();
    for (quantity, status) in [(1, "confirmed"), (2, "confirmed"), (99, "rejected")] {
        let placed = walk.post("/api/orders", order("TEA-1", quantity), 201).await;
        assert_eq!(placed["status"], status);
        orders.push(placed);
    }
    let path = |nth: usize| format!("/api/orders/{}", text(&orders[nth]["order_id"]));
    walk.get(&path(2)).await;
    walk.put(&format!("{}/status", path(0)), json!({"status": "processing"})).await;
    walk.post(&format!("{}/cancel", path(1)), json!({"reason": "changed my mind"}), 202).await;
    walk.put(&format!("{}/status", path(0)), json!({"status": "shipped"})).await;
    let returns = format!("{}/returns", path(0));
    let rejected = walk.post(&returns, json!({"reason": "too small"}), 201).await;
    let at = |found: &Value| format!("/api/returns/{}", text(&found["return_id"]));
    walk.post(&format!("{}/reject", at(&rejected)), json!({"reason": "it was worn"}), 200).await;
    let found = walk.post(&returns, json!({"reason": "too small"}), 201).await;
    for list in ["/api/returns", &returns] {
        assert!(walk.get(list).await["items"][0].is_object(), "{list} is empty");
    }
    walk.post(&format!("{}/approve", at(&found)), json!({}), 200).await;
    walk.post(&format!("{}/receive", at(&found)), json!({}), 200).await;
    walk.get(&at(&found)).await;
    let customer = format!("/api/customers/{}/orders", text(&orders[0]["customer_id"]));
    for list in ["/api/orders?status=rejected", "/api/orders/status/cancelled", &customer] {
        assert!(walk.get(list).await["items"][0].is_object(), "{list} is empty");
    }
    // A placement that was compensated has a cause.
    let rejected = walk.get(&format!("/api/workflows/{}", text(&orders[2]["workflow_id"]))).await;
    assert_eq!((&rejected["cause"]["kind"], &rejected["status"]), (&json!("failed"), &json!("compensated")));
    walk.get(&format!("/api/workflows/{}/history", text(&orders[2]["workflow_id"]))).await;
}

async fn notifications_and_workflows(walk: &mut Walk) {
    let mail = json!({"to": "a@example.com", "subject": "Hello", "text": "Hello.\n"});
    let sent = walk.post("/api/notifications", mail.clone(), 201).await;
    assert_eq!(sent["status"], "sent");
    let read = walk.get(&format!("/api/notifications/{}", text(&sent["notification_id"]))).await;
    assert_eq!(read["attempts"][0]["outcome"], "done");
    assert!(walk.get("/api/notifications/status/sent").await["items"][0].is_object());
    walk.get("/api/notification-templates").await;

    let start = json!({"definition": "deliver-notification", "input": mail});
    walk.post("/api/workflows", start.clone(), 202).await;
    let queue = "/api/queues/notifications";
    walk.put(queue, json!({"paused": true, "reason": "the mail server moves"})).await;
    walk.get(queue).await;
    walk.get("/api/queues").await;
    let waiting = walk.shop.post("/api/workflows", &start).await;
    let waiting = format!("/api/workflows/{}", text(&body(waiting, 202).await["workflow_id"]));
    walk.post(&format!("{waiting}/cancel"), json!({"reason": "not needed"}), 202).await;
    walk.put(queue, json!({"paused": false})).await;
    let cancelled = walk.get(&waiting).await;
    assert_eq!(
        (&cancelled["cause"]["kind"], &cancelled["cause"]["origin"]),
        (&json!("cancelled"), &json!("requested"))
    );
    store_earlier_graph(walk.shop.engine.pool(), "g1:0").await;
    let from = json!({"definition": "place-order", "from": "g1:0", "reason": "gone"});
    walk.post("/api/workflows/move", from, 200).await;
    let bill = super::signals::waiting(&walk.shop, "b-1").await;
    walk.post(&format!("{bill}/skip-wait"), json!({"reason": "paid in cash"}), 202).await;
    let bill = super::signals::waiting(&walk.shop, "b-2").await;
    walk.post(&format!("{bill}/signals/payment"), json!({"message": {"amount": 1}}), 202).await;
    super::signals::waiting(&walk.shop, "b-3").await;
    let signal =
        json!({"definition": "bill", "business_key": "b-3", "name": "payment", "message": {"amount": 1}});
    walk.post("/api/signals", signal, 202).await;
    walk.get("/api/workflows").await;
    for below in ["tree", "signals", "children/bottles"] {
        walk.get(&format!("{bill}/{below}")).await;
    }
    walk.get("/api/workflow-definitions").await;
    walk.get("/api/workflow-definitions/place-order").await;
}

/// Stores a graph of `place-order` of which no workflow is left.
pub(super) async fn store_earlier_graph(pool: &sqlx::PgPool, hash: &str) {
    sqlx::query(
        "insert into engine.graph (hash, definition, graph, input_schema) \
         select $1, definition, jsonb_set(graph, '{hash}', to_jsonb($1)), input_schema from engine.graph \
         where definition = 'place-order' limit 1",
    )
    .bind(hash)
    .execute(pool)
    .await
    .unwrap();
}

async fn dead_jobs(walk: &mut Walk, jobs: &[Value], repair: impl FnOnce()) {
    let path = |nth: usize| format!("/api/dead-jobs/{}", text(&jobs[nth]["dead_job_id"]));
    walk.get("/api/dead-jobs").await;
    walk.get("/api/dead-jobs/summary").await;
    let all = json!({"filter": {}, "reason": "old"});
    walk.post("/api/dead-jobs/discard", all.clone(), 200).await;
    walk.post("/api/dead-jobs/retry", all, 200).await;
    walk.post(&format!("{}/discard", path(0)), json!({"reason": "old"}), 200).await;
    repair();
    let retried = walk.post(&format!("{}/retry", path(1)), json!({"reason": "repaired"}), 202).await;
    let id = text(&retried["workflow_id"]).parse().unwrap();
    assert_eq!(
        walk.shop.engine.wait(id, WAIT_TIMEOUT).await.unwrap().unwrap().status,
        engine::Status::Completed
    );
    assert_eq!(walk.get(&path(1)).await["resolution"], "retried");

    let expire = "update engine.dead_job set expires_at = now()";
    sqlx::query(expire).execute(walk.shop.engine.pool()).await.unwrap();
    walk.shop.engine.expire_dead_jobs(10).await.unwrap();
    let archive = walk.get("/api/dead-jobs/archive?with_resolved=true").await;
    let reasons: BTreeSet<_> =
        archive["items"].as_array().unwrap().iter().map(|job| text(&job["why"])).collect();
    assert_eq!(reasons, BTreeSet::from(["expired", "resolved"]));
    walk.get(&format!("/api/dead-jobs/archive/{}", text(&jobs[2]["dead_job_id"]))).await;
}

#[tokio::test]
async fn an_encoded_body_is_refused_with_what_is_taken_instead() {
    let shop = TestApi::without_workers(generous_limits()).await;
    for (method, path) in [
        (Method::POST, "/api/orders"),
        (Method::POST, "/api/products/bulk"),
        (Method::POST, "/api/dead-jobs/0199f39f-0000-7000-8000-00000000000a/retry"),
        (Method::PUT, "/api/queues/default"),
    ] {
        let encoded = shop.request(method.clone(), path).header("Content-Encoding", "gzip").json(&json!({}));
        let refused = encoded.send().await.unwrap();
        assert_eq!(refused.headers()["accept-encoding"], "identity", "{path}");
        assert!(refused.headers().get("accept").is_none());
        problem(refused, 415, "unsupported-content-encoding").await;
        let form = shop.request(method, path).header("Content-Type", "text/plain").body("a");
        let refused = form.send().await.unwrap();
        assert_eq!(refused.headers()["accept"], "application/json", "{path}");
        assert!(refused.headers().get("accept-encoding").is_none());
        problem(refused, 415, "unsupported-media-type").await;
    }
    let plain = shop.request(Method::POST, "/api/products").header("Content-Encoding", "identity");
    body(plain.json(&product("TEA-1", 1)).send().await.unwrap(), 201).await;
}
