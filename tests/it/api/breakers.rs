//! Circuit breakers of other processes, as the API lists them.

use std::time::{Duration, Instant};

use breakers::{BreakerSettings, Breakers, Dependency};
use serde_json::{Value, json};
use shop::breaker_reports::{Process, report, withdraw};
use uuid::Uuid;

use crate::support::WAIT_TIMEOUT;

use super::fixtures::{TestApi, body, generous_limits, problem};

/// The breakers of a process that can or can't reach its mail server.
fn breakers(open: bool) -> Breakers {
    let settings =
        BreakerSettings { failures: 2, open_duration: Duration::from_hours(1), successes_to_close: 3 };
    let breakers = Breakers::new(|_| settings);
    let smtp = breakers.of(Dependency::Smtp);
    for _ in 0..2 {
        let permit = smtp.try_acquire().unwrap();
        if open { permit.failed() } else { permit.succeeded() }
    }
    breakers
}

#[tokio::test]
async fn the_breakers_of_all_processes_are_listed_and_degrade_health() {
    let shop = TestApi::without_workers(generous_limits()).await;
    let pool = shop.engine.pool();
    assert_eq!(
        body(shop.get("/api/circuit-breakers").await, 200).await,
        json!({"items": [], "next_cursor": null})
    );
    let (well, ill) =
        (Process { id: Uuid::now_v7(), name: "work" }, Process { id: Uuid::now_v7(), name: "work" });
    report(pool, well, &breakers(false).views()).await.unwrap();
    let health = body(shop.get("/health").await, 200).await;
    assert_eq!(health["parts"]["breakers"], json!({"state": "up", "detail": null, "not_closed": []}));
    report(pool, ill, &breakers(true).views()).await.unwrap();

    let list = body(shop.get("/api/circuit-breakers").await, 200).await;
    let states: Vec<_> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (item["process_id"].clone(), item["dependency"].clone(), item["state"].clone()))
        .collect();
    let smtp = json!("smtp");
    assert_eq!(
        states,
        [(json!(well.id), smtp.clone(), json!("closed")), (json!(ill.id), smtp, json!("open"))]
    );
    let open = &list["items"][1];
    assert_eq!(open["settings"], json!({"failures": 2, "open_ms": 3_600_000, "probes": 3}));
    assert_eq!((&open["failures"], &open["process"]), (&json!(2), &json!("work")));
    assert!(open["opened_at"].is_string() && open["next_probe_at"].is_string(), "{open}");
    assert!(open["next_probe_at"].as_str() > open["seen_at"].as_str(), "{open}");
    assert_eq!(
        (&list["items"][0]["opened_at"], &list["items"][0]["next_probe_at"]),
        (&Value::Null, &Value::Null)
    );

    // Health is cached for a second.
    let begun = Instant::now();
    while body(shop.get("/health").await, 200).await["status"] != "degraded" {
        assert!(begun.elapsed() < WAIT_TIMEOUT, "health sees it too");
        // A process that has not reported for half a minute is not listed.
        report(pool, ill, &breakers(true).views()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for path in ["/health", "/health/ready"] {
        let health = body(shop.get(path).await, 200).await;
        assert_eq!(health["status"], "degraded", "{health}");
        assert_eq!(health["parts"]["mail"]["state"], "down", "{health}");
        assert_eq!(health["parts"]["breakers"]["state"], "degraded", "{health}");
        assert_eq!(health["parts"]["breakers"]["not_closed"], json!(["smtp"]));
    }
    problem(shop.get("/api/circuit-breakers?limit=1").await, 400, "invalid-parameter").await;
}

#[tokio::test]
async fn a_process_that_stopped_reporting_or_withdrew_its_report_is_not_listed() {
    let shop = TestApi::without_workers(generous_limits()).await;
    let pool = shop.engine.pool();
    let (silent, polite) =
        (Process { id: Uuid::now_v7(), name: "work" }, Process { id: Uuid::now_v7(), name: "dev" });
    for process in [silent, polite] {
        report(pool, process, &breakers(true).views()).await.unwrap();
    }
    let age = |interval: &'static str| async move {
        let sql = format!(
            "update shop.circuit_breaker set seen_at = seen_at - interval '{interval}' where process_id = $1"
        );
        sqlx::query(sqlx::AssertSqlSafe(sql)).bind(silent.id).execute(pool).await.unwrap();
    };
    age("31 seconds").await;
    let shown = |list: Value| {
        list["items"].as_array().unwrap().iter().map(|item| item["process"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(shown(body(shop.get("/api/circuit-breakers").await, 200).await), ["dev"]);
    withdraw(pool, polite).await.unwrap();
    assert_eq!(shown(body(shop.get("/api/circuit-breakers").await, 200).await), [Value::Null; 0]);
    assert_eq!(body(shop.get("/health").await, 200).await["status"], "up");
    // The next report of any process deletes outdated ones.
    age("10 minutes").await;
    report(pool, polite, &breakers(false).views()).await.unwrap();
    let rows: i64 =
        sqlx::query_scalar("select count(*) from shop.circuit_breaker").fetch_one(pool).await.unwrap();
    assert_eq!(rows, 1);
}

#[tokio::test]
async fn the_time_of_a_state_change_stays_until_the_next_change() {
    let shop = TestApi::without_workers(generous_limits()).await;
    let pool = shop.engine.pool();
    let process = Process { id: Uuid::now_v7(), name: "work" };
    let mut changes = Vec::new();
    for open in [true, true, false] {
        report(pool, process, &breakers(open).views()).await.unwrap();
        let list = body(shop.get("/api/circuit-breakers").await, 200).await;
        changes.push(list["items"][0]["changed_at"].clone());
    }
    assert_eq!(changes[0], changes[1]);
    assert!(changes[2].as_str() > changes[1].as_str(), "{changes:?}");
}
