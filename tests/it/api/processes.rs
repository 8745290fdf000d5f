//! The processes, as the API lists them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uuid::Uuid;

use super::fixtures::{TestApi, body, generous_limits, problem};
use crate::support::WAIT_TIMEOUT;

async fn listed(shop: &TestApi) -> Vec<Value> {
    body(shop.get("/api/processes").await, 200).await["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn the_processes_are_listed_with_what_they_hold_and_those_that_vanished_are_gone() {
    let shop = TestApi::with_workers().await;
    let begun = Instant::now();
    while listed(&shop).await.first().is_none_or(|process| process["queues"] == json!([])) {
        assert!(begun.elapsed() < WAIT_TIMEOUT, "the process is listed with its queues");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let here = listed(&shop).await.remove(0);
    assert_eq!((&here["state"], &here["process"]), (&json!("up"), &json!("engine")), "{here}");
    assert_eq!(
        (&here["process_id"], &here["pid"]),
        (&json!(shop.engine.worker().0), &json!(std::process::id()))
    );
    assert!(here["capacity"].as_u64().unwrap() > 0 && here["host"] != "", "{here}");

    // Another stops, a third was killed, and a fourth is of the version before, which tells no capacity.
    let insert = "insert into engine.process (id, host, pid, version, role, queues, hashes, steps, in_flight, draining, \
             started_at, seen_at, capacity) \
         values ($1, 'worker-3', 7, '0.0.9', $2, '{default}', '{}', '{}', 3, $3, now() - interval '1 hour', \
             now() - $4 * interval '1 second', $5)";
    for (role, draining, age, capacity) in
        [("stops", true, 0, Some(96)), ("killed", true, 3600, Some(96)), ("earlier", false, 0, None)]
    {
        sqlx::query(insert)
            .bind(Uuid::now_v7())
            .bind(role)
            .bind(draining)
            .bind(age)
            .bind(capacity)
            .execute(shop.engine.pool())
            .await
            .unwrap();
    }
    let others: Vec<_> = listed(&shop).await.into_iter().take(3).collect();
    let states: Vec<_> = others.iter().map(|process| (&process["process"], &process["state"])).collect();
    assert_eq!(
        states,
        [
            (&json!("stops"), &json!("draining")),
            (&json!("killed"), &json!("gone")),
            (&json!("earlier"), &json!("up"))
        ]
    );
    assert_eq!((&others[0]["capacity"], &others[2]["capacity"]), (&json!(96), &Value::Null));
    assert_eq!((&others[0]["in_flight"], &others[0]["host"]), (&json!(3), &json!("worker-3")));
}

#[tokio::test]
async fn a_list_of_processes_takes_no_parameters() {
    let shop = TestApi::without_workers(generous_limits()).await;
    assert_eq!(
        listed(&shop).await,
        Vec::<Value>::new(),
        "an engine that is not announced and works on no queue"
    );
    problem(shop.get("/api/processes?limit=1").await, 400, "invalid-parameter").await;
}
