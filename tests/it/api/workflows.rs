//! Workflows of any definition over HTTP.

use reqwest::Method;
use serde_json::{Value, json};

use super::fixtures::{TestApi, body, generous_limits, problem};

#[tokio::test]
async fn errors_in_a_workflow_input_have_pointers_below_input() {
    let shop = TestApi::without_workers(generous_limits()).await;
    let start = json!({"definition": "cancel-order", "input": {"order_id": 7, "colour": "red"}});
    let wrong = problem(shop.post("/api/workflows", &start).await, 422, "invalid-body").await;
    let mut pointers: Vec<_> =
        wrong["errors"].as_array().unwrap().iter().map(|error| error["pointer"].as_str().unwrap()).collect();
    pointers.sort_unstable();
    for pointer in ["/input/colour", "/input/order_id", "/input/reason"] {
        assert!(pointers.contains(&pointer), "{pointer} in {pointers:?}");
    }
    let unknown = json!({"definition": "make-gold", "input": {}});
    let unknown = problem(shop.post("/api/workflows", &unknown).await, 422, "invalid-body").await;
    assert_eq!(unknown["errors"][0]["pointer"], "/definition");
    let refused = json!({"definition": "cancel-order", "input": {
        "order_id": "0199f39f-0000-7000-8000-00000000000a", "reason": "x", "actor": "anna"
    }});
    problem(shop.post("/api/workflows", &refused).await, 422, "refused").await;
}

#[tokio::test]
async fn a_business_key_returns_the_same_workflow_again() {
    let shop = TestApi::with_workers().await;
    shop.stock("TEA-1", 5).await;
    let placed = shop.order("TEA-1", 1).await;
    let start = json!({"definition": "cancel-order", "business_key": "bk", "input": {
        "order_id": placed["order_id"], "reason": "x", "actor": "anna"
    }});
    let request = shop.request(Method::POST, "/api/workflows").header("Prefer", "wait=20").json(&start);
    let response = request.send().await.unwrap();
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let first = body(response, 202).await;
    assert_eq!((&first["status"], &first["definition"]), (&json!("completed"), &json!("cancel-order")));
    let again = body(shop.post("/api/workflows", &start).await, 202).await;
    assert_eq!(again["workflow_id"], first["workflow_id"]);
    assert_eq!(body(shop.get(&location).await, 200).await["workflow_id"], first["workflow_id"]);
    let listed = body(shop.get("/api/workflows?business_key=bk&status=completed").await, 200).await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    problem(shop.post(&format!("{location}/cancel"), &json!({})).await, 409, "workflow-ended").await;
}

#[tokio::test]
async fn the_key_of_a_deleted_workflow_is_refused_with_the_time_until_which_it_is_kept() {
    let shop = TestApi::without_workers(generous_limits()).await;
    let gone = "0199f39f-0000-7000-8000-00000000000a";
    sqlx::query(
        "insert into engine.business_key (definition, key, saga_id, kept_until)
         values ('deliver-notification', 'news-1', $1::uuid, '2999-11-22T10:00:00Z')",
    )
    .bind(gone)
    .execute(shop.engine.pool())
    .await
    .unwrap();
    let start = json!({"definition": "deliver-notification", "business_key": "news-1", "input": {
        "to": "a@example.com", "subject": "x", "text": "x"
    }});
    for (key, prefer) in [("first", "wait=0"), ("second", "wait=20")] {
        let request = shop.request(Method::POST, "/api/workflows").header("Idempotency-Key", key);
        let request = request.header("Prefer", prefer).json(&start);
        let repeated = request.try_clone().unwrap();
        let refused = problem(request.send().await.unwrap(), 409, "business-key-used").await;
        let detail = refused["detail"].as_str().unwrap();
        assert!(detail.contains(gone) && detail.contains("2999-11-22T10:00:00Z"), "{detail}");
        let replayed = problem(repeated.send().await.unwrap(), 409, "business-key-used").await;
        assert_eq!(replayed["detail"], refused["detail"]);
    }
    for path in ["", "/history"] {
        problem(shop.get(&format!("/api/workflows/{gone}{path}")).await, 404, "not-found").await;
    }
    let cancel = format!("/api/workflows/{gone}/cancel");
    problem(shop.post(&cancel, &json!({})).await, 404, "not-found").await;
}

#[tokio::test]
async fn business_keys_that_the_shop_generates_are_reserved() {
    let shop = TestApi::with_workers().await;
    shop.stock("TEA-1", 5).await;
    let [one, other] = [shop.order("TEA-1", 1).await, shop.order("TEA-1", 1).await];
    let cancel = |key: &Value, order: &Value| {
        json!({"definition": "cancel-order", "business_key": key, "input": {
            "order_id": order["order_id"], "reason": "x", "actor": "anna"
        }})
    };
    let mail = |key: &str| {
        json!({"definition": "deliver-notification", "business_key": key, "input": {
            "to": "ann@example.com", "subject": "Hello", "text": "Hello."
        }})
    };
    let confirmed = format!("order-confirmed:{}", one["order_id"].as_str().unwrap());
    for start in [cancel(&one["order_id"], &other), mail(&confirmed), mail("sent:news-1")] {
        let refused = problem(shop.post("/api/workflows", &start).await, 422, "invalid-body").await;
        let error = &refused["errors"][0];
        assert_eq!((&error["pointer"], &error["code"]), (&json!("/business_key"), &json!("reserved-key")));
    }
    body(shop.post("/api/workflows", &cancel(&one["order_id"], &one)).await, 202).await;
    body(shop.post("/api/workflows", &mail("news-1")).await, 202).await;
    let path = format!("/api/orders/{}/cancel", other["order_id"].as_str().unwrap());
    body(shop.post(&path, &json!({"reason": "x"})).await, 202).await;
}

#[tokio::test]
async fn a_waiting_workflow_is_cancelled_and_a_missing_one_is_not_found() {
    let shop = TestApi::without_workers(generous_limits()).await;
    shop.stock("TEA-1", 5).await;
    let placed = body(shop.post("/api/orders", &super::fixtures::order("TEA-1", 1)).await, 201).await;
    let path = format!("/api/workflows/{}/cancel", placed["workflow_id"].as_str().unwrap());
    let cancelled = shop.request(Method::POST, &path).header("X-Actor", "olga").send().await.unwrap();
    let cancelled = body(cancelled, 202).await;
    assert_eq!(cancelled["status"], "compensating", "{cancelled}");
    assert_eq!(cancelled["cause"]["actor"], "olga");
    let gone = "/api/workflows/0199f39f-0000-7000-8000-00000000000a/cancel";
    problem(shop.post(gone, &json!({"reason": "x"})).await, 404, "not-found").await;
}

#[tokio::test]
async fn a_history_is_read_page_by_page_oldest_first() {
    let shop = TestApi::with_workers().await;
    shop.stock("TEA-1", 5).await;
    let placed = shop.order("TEA-1", 1).await;
    let path = format!("/api/workflows/{}/history", placed["workflow_id"].as_str().unwrap());
    let whole = body(shop.get(&path).await, 200).await;
    assert_eq!(whole["next_cursor"], json!(null));
    let (mut read, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = body(shop.get(&format!("{path}?limit=1{cursor}")).await, 200).await;
        read.extend(page["items"].as_array().unwrap().clone());
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(read.len(), 5, "{whole}");
    assert_eq!(json!(read), whole["items"]);
    let other = shop.order("TEA-1", 1).await;
    let others =
        format!("/api/workflows/{}/history?{}", other["workflow_id"].as_str().unwrap(), &cursor[1..]);
    problem(shop.get(&others).await, 400, "invalid-cursor").await;
    problem(shop.get(&format!("{path}?limit=201")).await, 400, "invalid-parameter").await;
    let gone = "/api/workflows/0199f39f-0000-7000-8000-00000000000a/history";
    problem(shop.get(gone).await, 404, "not-found").await;
}

#[tokio::test]
async fn definitions_show_their_graph_and_their_input_schema() {
    let shop = TestApi::without_workers(generous_limits()).await;
    let all = body(shop.get("/api/workflow-definitions").await, 200).await;
    let names: Vec<_> =
        all["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["cancel-order", "deliver-notification", "place-order", "return-order"]);
    let one = body(shop.get("/api/workflow-definitions/cancel-order").await, 200).await;
    let placements: Vec<_> =
        one["steps"].as_array().unwrap().iter().map(|step| step["placement"].as_str().unwrap()).collect();
    assert_eq!(placements, ["pivot", "after_pivot", "after_pivot"]);
    assert_eq!(one["steps"][1]["after"], json!(["begin-cancellation"]));
    let waits = body(shop.get("/api/workflow-definitions/return-order").await, 200).await;
    assert_eq!(
        (&waits["steps"][3]["kind"], &waits["steps"][3]["placement"]),
        (&json!("signal"), &json!("pivot"))
    );
    assert!(one["input_schema"]["properties"].is_object());
}

#[tokio::test]
async fn workflows_are_filtered_by_definition_status_start_time_and_being_stuck() {
    let shop = TestApi::without_workers(generous_limits()).await;
    shop.stock("TEA-1", 10).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let order = body(shop.post("/api/orders", &super::fixtures::order("TEA-1", 1)).await, 201).await;
        ids.push(order["workflow_id"].as_str().unwrap().to_owned());
    }
    // The first was started ten minutes ago and has not moved since, although it has just been tried again.
    let late = [
        "update engine.saga set created_at = now() - interval '10 minutes' where id = $1::uuid",
        "insert into engine.start_batch select definition, created_at, array[id] from engine.saga where id = $1::uuid",
        "update engine.history_run set started_at = now() - interval '10 minutes' where saga_id = $1::uuid",
        "insert into engine.history_run (saga_id, seq, step, direction, outcome, attempt, started_at, duration_ms, \
             epoch)
         select id, history_seq + 1, step, direction, 'retry', 1, now(), 0, epoch from engine.saga where id = $1::uuid",
    ];
    for statement in late {
        sqlx::query(statement).bind(&ids[0]).execute(shop.engine.pool()).await.unwrap();
    }
    // The second was started then, too, but its step was done a minute ago.
    let moved = "update engine.saga set created_at = now() - interval '9 minutes' where id = $1::uuid";
    for statement in [moved, late[1]] {
        sqlx::query(statement).bind(&ids[1]).execute(shop.engine.pool()).await.unwrap();
    }
    let second = body(shop.get(&format!("/api/workflows/{}", ids[1])).await, 200).await;
    let second = second["created_at"].as_str().unwrap();
    let lists: [(String, &[usize]); 9] = [
        ("definition=place-order&status=running".into(), &[2, 1, 0]),
        ("definition=cancel-order".into(), &[]),
        ("status=completed".into(), &[]),
        (format!("created_after={second}"), &[2]),
        (format!("created_before={second}"), &[0]),
        ("stuck_for_s=300".into(), &[0]),
        ("stuck_for_s=300&definition=place-order".into(), &[0]),
        ("stuck_for_s=300&status=running&created_after=2026-01-01T00:00:00Z".into(), &[0]),
        ("stuck_for_s=900".into(), &[]),
    ];
    for (filter, expected) in lists {
        let list = body(shop.get(&format!("/api/workflows?{filter}")).await, 200).await;
        let found: Vec<_> = list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|saga| saga["workflow_id"].as_str().unwrap())
            .collect();
        let expected: Vec<_> = expected.iter().map(|nth| ids[*nth].as_str()).collect();
        assert_eq!(found, expected, "{filter}");
    }
    problem(shop.get("/api/workflows?stuck_for_s=-1").await, 400, "invalid-parameter").await;
}

#[tokio::test]
async fn a_definition_lists_its_graphs_with_their_workflows_and_the_processes_that_know_them() {
    let shop = TestApi::with_workers().await;
    shop.engine.store_graphs().await.unwrap();
    super::contract::store_earlier_graph(shop.engine.pool(), "g1:0").await;
    sqlx::query("update engine.graph set first_seen_at = now() - interval '1 day' where hash = 'g1:0'")
        .execute(&shop.owner_pool().await)
        .await
        .unwrap();
    shop.stock("TEA-1", 10).await;
    let order = shop.order("TEA-1", 1).await;
    let workflow = order["workflow_id"].as_str().unwrap();
    sqlx::query(
        "update engine.saga set graph_hash = 'g1:0', status = 'running', waits_for = 'version', ended_at = null, \
             result = null where id = $1::uuid",
    )
    .bind(workflow)
    .execute(&shop.owner_pool().await)
    .await
    .unwrap();
    let known = "select exists (select from engine.process where queues <> '{}')";
    while !sqlx::query_scalar::<_, bool>(known).fetch_one(shop.engine.pool()).await.unwrap() {
        tokio::task::yield_now().await;
    }
    let definition = body(shop.get("/api/workflow-definitions/place-order").await, 200).await;
    // Between them is the graph from before orders could wait for their payment.
    let [newest, _, earlier] = definition["graphs"].as_array().unwrap().as_slice() else {
        panic!("{definition}")
    };
    assert_eq!(newest["graph_hash"], definition["graph_hash"]);
    assert_eq!((&newest["workflows"], &newest["known_by"]), (&json!(0), &json!(1)));
    let process = &newest["processes"][0];
    assert_eq!((&process["worker"], &process["works"]), (&json!(shop.engine.worker()), &json!(true)));
    assert_eq!((&earlier["graph_hash"], &earlier["workflows"]), (&json!("g1:0"), &json!(1)));
    assert_eq!((&earlier["known_by"], &earlier["processes"]), (&json!(0), &json!([])));
    problem(shop.get("/api/workflow-definitions/no-such").await, 404, "not-found").await;
}
