//! A database that is read-only for a while, as during a failover: the sessions of that time must not outlive it.

use std::collections::BTreeSet;

use devkit::{
    mail_catcher::{Behaviour, Stage},
    postgres::Cluster,
};
use futures::future::join_all;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::test_cluster::{HttpProcess, TestCluster, at_least, id, order, stops_cleanly, until};
use crate::support::TempState;

/// Ends all other sessions of the database, as the end of a primary does.
const END_SESSIONS: &str = "select pg_terminate_backend(pid, 5000) from pg_stat_activity
                            where datname = current_database() and pid <> pg_backend_pid()";

/// Changes a setting of the database, which holds for sessions that are opened from now on.
async fn switch(test: &TestCluster, setting: &str) {
    let set =
        format!("do $$ begin execute format('alter database %I {setting}', current_database()); end $$");
    test.arrange(&set).await;
}

/// A workflow of an earlier graph, which is not due.
const EARLIER: &str = "insert into engine.graph (hash, definition, graph, input_schema)
                           select 'g1:0', definition, jsonb_set(graph, '{hash}', '\"g1:0\"'), input_schema
                           from engine.graph where definition = 'deliver-notification';
                       insert into engine.saga
                           (id, definition, graph_hash, queue, status, step, direction, input, due_at)
                           select gen_random_uuid(), definition, 'g1:0', queue, 'running', 'begin-delivery', 'action', input,
                               now() + interval '1 hour'
                           from engine.saga where definition = 'deliver-notification' limit 1";

/// Makes what the writes of [`writes`] need: a product, a confirmed order, a running workflow, one of an earlier graph, and
/// a dead job.
async fn prepare(test: &TestCluster, served: &HttpProcess) -> Vec<(&'static str, String, Value)> {
    served.client.add_product("TEA-1", 100).await;
    let order_id = served.client.place("ann@example.com", "TEA-1", 1).await;
    confirmed(test, order_id).await;
    test.catcher.behave(Behaviour::PermanentFailure(Stage::Recipient));
    let workflow_id = served.client.deliver("bob@example.com").await;
    at_least("a dead job", 1, || test.count("select count(*) from engine.dead_job")).await;
    let product_id = served.client.json("/api/products").await["items"][0]["product_id"].clone();
    let dead_job_id = served.client.json("/api/dead-jobs").await["items"][0]["dead_job_id"].clone();
    test.arrange(EARLIER).await;
    let ids = [order_id.to_string(), workflow_id.to_string(), text(&product_id), text(&dead_job_id)];
    let mut writes = writes(&ids);
    writes.extend(returns(served).await);
    writes
}

/// Everything that is written about returns: one can be requested, three others wait for a decision or their parcel.
async fn returns(served: &HttpProcess) -> Vec<(&'static str, String, Value)> {
    let order_id = served.client.place("ann@example.com", "TEA-1", 4).await;
    let path = format!("/api/orders/{order_id}");
    until("the order to be confirmed", async || {
        let order = served.client.json(&path).await;
        if order["status"] == "confirmed" { Ok(()) } else { Err(order) }
    })
    .await;
    for status in ["processing", "shipped"] {
        served.client.put(&format!("{path}/status"), &json!({"status": status})).await;
    }
    let one = json!({"reason": "too small", "items": [{"sku": "TEA-1", "quantity": 1}]});
    let returns = format!("{path}/returns");
    let mut ids = Vec::new();
    for _ in 0..3 {
        let requested = served.client.post_until_accepted(&returns, &Uuid::now_v7().to_string(), &one).await;
        ids.push(format!("/api/returns/{}", text(&requested["return_id"])));
    }
    let because = json!({"reason": "because"});
    served.client.post_until_accepted(&format!("{}/approve", ids[2]), "", &because).await;
    vec![
        ("POST", returns, one),
        ("POST", format!("{}/approve", ids[0]), because.clone()),
        ("POST", format!("{}/reject", ids[1]), because.clone()),
        ("POST", format!("{}/receive", ids[2]), because),
    ]
}

async fn confirmed(test: &TestCluster, order_id: Uuid) {
    until("the order to be confirmed", || async {
        let (status, ..) = test.order(order_id).await;
        if status == "confirmed" { Ok(()) } else { Err(status) }
    })
    .await;
}

/// The health of a process, whatever it is.
async fn health(process: &HttpProcess) -> Value {
    process.client.send("GET", "/health", &Value::Null).await.json().await.unwrap()
}

fn text(id: &Value) -> String {
    id.as_str().unwrap().to_owned()
}

/// The operations that send signals: these sagas wait for none, so they are refused before anything is written.
const SIGNALS: usize = 2;

/// Every operation that writes, with its path and a body that it accepts.
fn writes(
    [order_id, workflow_id, product_id, dead_job_id]: &[String; 4],
) -> Vec<(&'static str, String, Value)> {
    let change =
        json!({"name": "Tea", "category": "tea", "price": 1, "currency": "EUR", "low_stock_threshold": 0});
    let mut product = change.clone();
    product["sku"] = "TEA-2".into();
    product["initial_stock"] = 1.into();
    let because = json!({"reason": "because"});
    let many =
        json!({"filter": {"definition": "deliver-notification"}, "dry_run": false, "reason": "because"});
    let mail = json!({"to": "a@example.com", "subject": "Hello", "text": "Hello.\n"});
    let workflow = json!({"definition": "deliver-notification", "input": mail});
    let of = |noun: &str, id: &str, verb: &str| format!("/api/{noun}/{id}{verb}");
    vec![
        ("POST", "/api/orders".into(), order("a@example.com", "TEA-1", 1)),
        ("POST", of("orders", order_id, "/cancel"), because.clone()),
        ("PUT", of("orders", order_id, "/status"), json!({"status": "processing", "reason": "picked"})),
        ("POST", "/api/products".into(), product.clone()),
        ("POST", "/api/products/bulk".into(), json!({"items": [product]})),
        ("PUT", of("products", product_id, ""), change),
        ("PUT", of("products", product_id, "/stock"), json!({"adjust": 1, "reason": "found"})),
        ("POST", "/api/notifications".into(), mail),
        ("POST", "/api/workflows".into(), workflow),
        ("POST", of("workflows", workflow_id, "/cancel"), because.clone()),
        (
            "POST",
            "/api/workflows/move".into(),
            json!({"definition": "deliver-notification", "from": "g1:0", "dry_run": false, "reason": "because"}),
        ),
        ("POST", of("workflows", workflow_id, "/skip-wait"), because.clone()),
        ("PUT", of("queues", "default", ""), json!({"paused": false, "reason": "because"})),
        ("POST", of("dead-jobs", dead_job_id, "/retry"), because.clone()),
        ("POST", of("dead-jobs", dead_job_id, "/discard"), because),
        ("POST", "/api/dead-jobs/retry".into(), many.clone()),
        ("POST", "/api/dead-jobs/discard".into(), many),
    ]
}

/// The number of operations of the API that change something.
async fn operations(served: &HttpProcess) -> usize {
    let document = served.client.json("/openapi.json").await;
    let paths = document["paths"].as_object().unwrap().values();
    paths.flat_map(|path| path.as_object().unwrap().keys()).filter(|method| *method != "get").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_is_read_only_writes_get_a_503_and_afterwards_they_succeed_at_once() {
    let mut test = TestCluster::open().await;
    test.set("RETRY_SEND_MAIL_ATTEMPTS", "1");
    let (served, worker) = (test.serve().await, test.worker().await);
    let writes = prepare(&test, &served).await;
    let distinct: BTreeSet<_> = writes.iter().map(|(method, path, _)| (method, path)).collect();
    assert_eq!(
        distinct.len() + SIGNALS,
        operations(&served).await,
        "every operation that changes something is tried"
    );

    switch(&test, "set default_transaction_read_only = on").await;
    test.arrange(END_SESSIONS).await;
    for process in [&served, &worker] {
        until("health to report it", || async {
            let health = self::health(process).await;
            let state = &health["parts"]["database"];
            let detail = state["detail"].as_str().unwrap_or_default();
            if state["state"] == "degraded" && detail.contains("read-only") { Ok(()) } else { Err(health) }
        })
        .await;
    }
    // Several times, so that every session of the pools has been read-only and was used.
    for _ in 0..4 {
        for (method, path, body) in &writes {
            let answer = served.client.send(method, path, body).await;
            let (status, again) = (answer.status().as_u16(), answer.headers().contains_key("retry-after"));
            let problem: Value = answer.json().await.unwrap();
            assert_eq!(
                (status, again, &problem["code"]),
                (503, true, &"unavailable".into()),
                "{method} {path}: {problem}"
            );
        }
        // At once, so that every session of the pool is used.
        let burst = writes.iter().map(|(method, path, body)| served.client.send(method, path, body));
        for (answer, (method, path, _)) in join_all(burst).await.iter().zip(&writes) {
            assert_eq!(answer.status(), 503, "{method} {path}");
        }
        assert_eq!(served.client.status("/api/orders").await, 200, "reads are served");
        assert_eq!(served.client.status("/health/ready").await, 200, "a process that serves reads is ready");
    }

    // The sessions of the pools are still read-only.
    switch(&test, "reset default_transaction_read_only").await;
    test.arrange("delete from engine.saga where graph_hash = 'g1:0'").await;
    test.catcher.behave(Behaviour::Accept);
    let mut orders = Vec::new();
    let body = order("a@example.com", "TEA-1", 1);
    for round in 0..5 {
        // Several at once, so that the pool gives out several of its sessions; with a key, so that each writes by itself.
        let burst =
            (0..8).map(async |_| served.client.once("/api/orders", &Uuid::now_v7().to_string(), &body).await);
        for placed in join_all(burst).await {
            let placed = placed.unwrap_or_else(|refused| panic!("round {round}: {refused}"));
            orders.push(id(&placed, "order_id"));
        }
    }
    // Returns wait for people, for weeks.
    let waiting = served.client.json("/api/workflows?definition=return-order&status=running").await;
    for saga in waiting["items"].as_array().unwrap() {
        served.client.cancel(&format!("/api/workflows/{}", text(&saga["workflow_id"]))).await;
    }
    test.wait_until_no_saga_is_active().await;
    for order_id in orders {
        assert_eq!(test.order(order_id).await.0, "confirmed");
    }
    for process in [&served, &worker] {
        until("health to be up", || async {
            let health = self::health(process).await;
            if health["parts"]["database"]["state"] == "up" { Ok(()) } else { Err(health) }
        })
        .await;
    }
    test.assert_all_well().await;
    stops_cleanly(served.process).await;
    stops_cleanly(worker.process).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_whose_connections_work_is_ready_although_the_database_takes_no_more() {
    let state = TempState::new();
    let cluster = Cluster::start(state.options()).await.unwrap();
    let test = TestCluster::on(TempState::migrated(&cluster, "shop").await).await;
    let (served, worker) = (test.serve().await, test.work().await);
    served.client.add_product("TEA-1", 100).await;
    served.client.place("ann@example.com", "TEA-1", 1).await;
    test.wait_until_no_saga_is_active().await;
    let mut others = Vec::new();
    while let Ok(connection) = PgConnection::connect(&test.url).await {
        others.push(connection);
    }
    let ready = until("readiness to report it", || async {
        let health = self::health(&served).await;
        let detail = health["parts"]["database"]["detail"].as_str().unwrap_or_default();
        if detail.contains("takes no more connections") { Ok(health) } else { Err(health) }
    })
    .await;
    assert_eq!(ready["status"], "degraded", "{ready}");
    assert_eq!(served.client.status("/health/ready").await, 200);
    let order_id = served.client.place("ann@example.com", "TEA-1", 1).await;
    confirmed(&test, order_id).await;
    drop(others);
    until("health to be up", || async {
        let health = self::health(&served).await;
        if health["parts"]["database"]["state"] == "up" { Ok(()) } else { Err(health) }
    })
    .await;
    stops_cleanly(worker).await;
    stops_cleanly(served.process).await;
    test.pool.close().await;
    cluster.stop().await.unwrap();
}
