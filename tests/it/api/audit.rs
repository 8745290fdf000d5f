//! Audit records: every change leaves one, with actor, address, reason, and the state before and after.

use std::collections::BTreeSet;

use api::Access;
use reqwest::Method;
use serde_json::{Value, json};
use shop::keys::KeyRole;
use uuid::Uuid;

use super::{
    access::{key, with},
    fixtures::{TestApi, body, order, problem, product},
};

/// Operations that change something and leave no audit record of the shop, because the engine records them.
const ELSEWHERE: [&str; 9] = [
    "POST /api/workflows/move",
    "POST /api/workflows/{workflow_id}/signals/{name}",
    "POST /api/workflows/{workflow_id}/skip-wait",
    "POST /api/signals",
    "POST /api/workflows/{workflow_id}/cancel",
    "POST /api/dead-jobs/{dead_job_id}/retry",
    "POST /api/dead-jobs/{dead_job_id}/discard",
    "POST /api/dead-jobs/retry",
    "POST /api/dead-jobs/discard",
];

/// A caller with a key, who acts for anna.
struct KeyHolder {
    shop: TestApi,
    key_id: String,
    token: String,
    recorded: usize,
    called: BTreeSet<String>,
}

/// The expected record of a call. Of `before` and `after`, only these fields are compared.
struct Record<'a> {
    action: &'a str,
    subject: (&'a str, &'a str),
    reason: Option<&'a str>,
    before: Value,
    after: Value,
}

impl KeyHolder {
    async fn new() -> Self {
        let shop = TestApi::with_access_and_workers(Access::default()).await;
        let (key_id, token) = key(&shop, "backoffice", KeyRole::Operate).await;
        Self { shop, key_id, token, recorded: 0, called: BTreeSet::new() }
    }

    /// Calls an operation with `id` in its path, and returns the response and its trace id.
    async fn call(&mut self, operation: &str, id: &str, change: &Value) -> (Value, String) {
        let (method, path) = operation.split_once(' ').unwrap();
        let path: Vec<_> =
            path.split('/').map(|part| if part.starts_with('{') { id } else { part }).collect();
        let request = with(&self.shop, &self.token, method.parse().unwrap(), &path.join("/"))
            .header("X-Actor", "anna")
            .header("Prefer", "wait=20");
        let answer = request.json(change).send().await.unwrap();
        assert!(answer.status().is_success(), "{operation}: {}", answer.text().await.unwrap());
        let trace_id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
        self.called.insert(operation.to_owned());
        (answer.json().await.unwrap(), trace_id)
    }

    /// The audit records of this caller, newest first.
    async fn entries(&self) -> Vec<Value> {
        let request = with(&self.shop, &self.token, Method::GET, "/api/audit?limit=200&actor=key:backoffice");
        body(request.send().await.unwrap(), 200).await["items"].as_array().unwrap().clone()
    }

    /// Calls an operation that must leave exactly this record.
    async fn expect_record(
        &mut self,
        operation: &str,
        id: &str,
        change: &Value,
        record: Record<'_>,
    ) -> Value {
        let (answer, trace_id) = self.call(operation, id, change).await;
        let entries = self.entries().await;
        self.recorded += 1;
        assert_eq!(entries.len(), self.recorded, "{operation} leaves one record: {entries:#?}");
        let entry = &entries[0];
        // The id of a subject that the call creates is taken from the response.
        let subject_id = match record.subject.1.strip_prefix('/') {
            Some(field) => answer.pointer(&format!("/{field}")).unwrap().as_str().unwrap(),
            None => record.subject.1,
        };
        let recorded = json!([
            entry["actor"],
            entry["key_id"],
            entry["address"],
            entry["trace_id"],
            entry["action"],
            entry["subject"]["kind"],
            entry["subject"]["id"],
            entry["reason"],
        ]);
        let expected = json!([
            "key:backoffice/anna",
            self.key_id,
            "127.0.0.1",
            trace_id,
            record.action,
            record.subject.0,
            subject_id,
            record.reason,
        ]);
        assert_eq!(recorded, expected, "{operation}: {entry:#}");
        for (side, expected) in [("before", &record.before), ("after", &record.after)] {
            assert_eq!(entry[side].is_null(), expected.is_null(), "{operation}, {side}: {entry:#}");
            for (field, value) in expected.as_object().into_iter().flatten() {
                assert_eq!(entry[side][field], *value, "{operation}, {side}: {entry:#}");
            }
        }
        answer
    }
}

#[tokio::test]
async fn every_operation_that_changes_something_leaves_one_record_with_before_and_after() {
    let mut anna = KeyHolder::new().await;
    let level = |on_hand: i64| json!({"on_hand": on_hand, "reserved": 0, "low_stock_threshold": 2});
    let record = |action, subject, reason, before, after| Record { action, subject, reason, before, after };

    let name = json!({"name": "TEA-1 of the best"});
    let created = record("product.create", ("product", "/product_id"), None, Value::Null, name.clone());
    let made = anna.expect_record("POST /api/products", "", &product("TEA-1", 9), created).await;
    let id = made["product_id"].as_str().unwrap();
    let change = json!({"name": "Sencha", "category": "tea", "price": 1390, "currency": "EUR", "low_stock_threshold": 2});
    let updated =
        record("product.update", ("product", id), None, name, json!({"name": "Sencha", "price": 1390}));
    anna.expect_record("PUT /api/products/{product_id}", id, &change, updated).await;
    let counted = record("stock.set", ("product", id), Some("count"), level(9), level(8));
    anna.expect_record(
        "PUT /api/products/{product_id}/stock",
        id,
        &json!({"set": 8, "reason": "count"}),
        counted,
    )
    .await;
    let adjusted = record("stock.adjust", ("product", id), Some("damaged"), level(8), level(7));
    let adjust = json!({"adjust": -1, "reason": "damaged"});
    anna.expect_record("PUT /api/products/{product_id}/stock", id, &adjust, adjusted).await;
    let created = record(
        "product.create",
        ("product", "/items/0/product_id"),
        None,
        Value::Null,
        json!({"name": "TEA-2 of the best"}),
    );
    let batch = json!({"items": [product("TEA-2", 1)]});
    anna.expect_record("POST /api/products/bulk", "", &batch, created).await;

    let placed = |order| {
        let after = json!({"status": "pending", "currency": "EUR", "total": 1390});
        (order, record("order.place", ("order", "/order_id"), None, Value::Null, after))
    };
    let (one, placement) = placed(order("TEA-1", 1));
    let first = anna.expect_record("POST /api/orders", "", &one, placement).await;
    let (another, placement) = placed(order("TEA-1", 1));
    let second = anna.expect_record("POST /api/orders", "", &another, placement).await;
    let (first, second) = (first["order_id"].as_str().unwrap(), second["order_id"].as_str().unwrap());
    let status = |status: &str| json!({"status": status});
    let moved =
        record("order.status", ("order", first), Some("picked"), status("confirmed"), status("processing"));
    let processing = json!({"status": "processing", "reason": "picked"});
    anna.expect_record("PUT /api/orders/{order_id}/status", first, &processing, moved).await;
    let asked = json!({"asked": "cancelled"});
    let cancelled = record("order.cancel", ("order", second), Some("changed"), status("confirmed"), asked);
    let cancel = json!({"reason": "changed"});
    anna.expect_record("POST /api/orders/{order_id}/cancel", second, &cancel, cancelled).await;

    let mail = json!({"to": "a@example.com", "subject": "We are closed", "text": "On Monday."});
    let recorded = json!({"to": "a@example.com", "subject": "We are closed", "dedup_key": null});
    let sent = record("notification.send", ("notification", "/notification_id"), None, Value::Null, recorded);
    anna.expect_record("POST /api/notifications", "", &mail, sent).await;
    let start = json!({"definition": "cancel-order", "business_key": "bk", "input": {
        "order_id": first, "reason": "x", "actor": "anna"
    }});
    let started = json!({"definition": "cancel-order", "business_key": "bk"});
    let started = record("workflow.start", ("order", first), None, Value::Null, started);
    anna.expect_record("POST /api/workflows", "", &start, started).await;

    let (third, placement) = placed(order("TEA-1", 1));
    let third = anna.expect_record("POST /api/orders", "", &third, placement).await;
    let third = third["order_id"].as_str().unwrap();
    let picked = record("order.status", ("order", third), None, status("confirmed"), status("processing"));
    let put = "PUT /api/orders/{order_id}/status";
    anna.expect_record(put, third, &json!({"status": "processing"}), picked).await;
    let left = record("order.status", ("order", third), None, status("processing"), status("shipped"));
    anna.expect_record(put, third, &json!({"status": "shipped"}), left).await;
    let asked = json!({"reason": "too small"});
    let requested = record(
        "return.request",
        ("return", "/return_id"),
        Some("too small"),
        Value::Null,
        status("requested"),
    );
    let returns = "POST /api/orders/{order_id}/returns";
    let sent = anna.expect_record(returns, third, &asked, requested).await;
    let id = sent["return_id"].as_str().unwrap();
    let rejected =
        record("return.reject", ("return", id), Some("worn"), status("requested"), status("rejected"));
    anna.expect_record("POST /api/returns/{return_id}/reject", id, &json!({"reason": "worn"}), rejected)
        .await;
    let requested =
        record("return.request", ("return", "/return_id"), None, Value::Null, status("requested"));
    let requested = Record { reason: Some("too small"), ..requested };
    let sent = anna.expect_record(returns, third, &asked, requested).await;
    let id = sent["return_id"].as_str().unwrap();
    let approved = record("return.approve", ("return", id), None, status("requested"), status("approved"));
    anna.expect_record("POST /api/returns/{return_id}/approve", id, &json!({}), approved).await;
    let arrived = json!({"status": "received", "items": [
        {"sku": "TEA-1", "quantity": 1, "received": 1, "restocked": 1}
    ]});
    let received = record("return.receive", ("return", id), Some("fine"), status("approved"), arrived);
    anna.expect_record("POST /api/returns/{return_id}/receive", id, &json!({"reason": "fine"}), received)
        .await;

    let (running, paused) = (
        json!({"paused": false, "paused_by": null, "reason": null}),
        json!({"paused": true, "paused_by": "key:backoffice/anna", "reason": "fire"}),
    );
    let queue = ("queue", "notifications");
    let pause = record("queue.pause", queue, Some("fire"), running.clone(), paused.clone());
    let put = "PUT /api/queues/{name}";
    anna.expect_record(put, "notifications", &json!({"paused": true, "reason": "fire"}), pause).await;
    let resume = record("queue.resume", queue, None, paused, running);
    anna.expect_record(put, "notifications", &json!({"paused": false}), resume).await;

    let document: Value = serde_json::from_str(&api::openapi_json()).unwrap();
    let mut changing = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if ["write", "operate"].contains(&operation["x-required-role"].as_str().unwrap())
                && method != "get"
            {
                changing.insert(format!("{} {path}", method.to_ascii_uppercase()));
            }
        }
    }
    anna.called.extend(ELSEWHERE.map(ToOwned::to_owned));
    assert_eq!(changing, anna.called, "every operation that changes something is called above");
}

#[tokio::test]
async fn whoever_starts_a_workflow_is_its_actor_whomever_the_input_names() {
    let mut anna = KeyHolder::new().await;
    anna.call("POST /api/products", "", &product("TEA-1", 5)).await;
    let order_id = Uuid::now_v7();
    let mut input = order("TEA-1", 1);
    input["order_id"] = json!(order_id);
    input["actor"] = json!("key:mallory");
    let id = order_id.to_string();
    let starts = [
        json!({"definition": "place-order", "business_key": id, "input": input}),
        json!({"definition": "cancel-order", "business_key": id, "input": {
            "order_id": order_id, "reason": "no", "actor": "key:mallory"
        }}),
    ];
    for start in &starts {
        let (workflow, _) = anna.call("POST /api/workflows", "", start).await;
        assert_eq!(
            (&workflow["status"], &workflow["input"]["actor"]),
            (&json!("completed"), &json!("key:backoffice/anna"))
        );
    }
    let request = with(&anna.shop, &anna.token, Method::GET, &format!("/api/orders/{id}"));
    let shown = body(request.send().await.unwrap(), 200).await;
    let actors: Vec<_> = shown["timeline"].as_array().unwrap().iter().map(|entry| &entry["actor"]).collect();
    assert_eq!(actors, ["key:backoffice/anna", "place-order", "key:backoffice/anna", "key:backoffice/anna"]);

    let request = with(&anna.shop, &anna.token, Method::GET, &format!("/api/audit?subject_id={id}"));
    let records = body(request.send().await.unwrap(), 200).await;
    let records = records["items"].as_array().unwrap().iter();
    let records: Vec<_> = records.map(|entry| (&entry["action"], &entry["after"]["definition"])).collect();
    let started = json!("workflow.start");
    assert_eq!(records, [(&started, &json!("cancel-order")), (&started, &json!("place-order"))]);
}

#[tokio::test]
async fn a_refused_or_repeated_start_leaves_no_further_audit_record() {
    let mut anna = KeyHolder::new().await;
    anna.call("POST /api/products", "", &product("TEA-1", 5)).await;
    let (placed, _) = anna.call("POST /api/orders", "", &order("TEA-1", 1)).await;
    let start = |order_id: &Value| {
        let input = json!({"order_id": order_id, "reason": "x", "actor": "anna"});
        json!({"definition": "cancel-order", "business_key": "bk", "input": input})
    };
    let unknown_order = start(&json!("0199f39f-0000-7000-8000-00000000000a"));
    let refused = with(&anna.shop, &anna.token, Method::POST, "/api/workflows").json(&unknown_order);
    problem(refused.send().await.unwrap(), 422, "refused").await;
    let mut ids = BTreeSet::new();
    for _ in 0..2 {
        let (started, _) = anna.call("POST /api/workflows", "", &start(&placed["order_id"])).await;
        ids.insert(started["workflow_id"].as_str().unwrap().to_owned());
    }
    let starts = anna.entries().await.into_iter().filter(|entry| entry["action"] == "workflow.start");
    let started: Vec<_> =
        starts.map(|entry| entry["after"]["workflow_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(started, ids.into_iter().collect::<Vec<_>>(), "one workflow was started");
}
