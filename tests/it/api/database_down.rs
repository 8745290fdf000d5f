//! The API without a database, or without a free connection to it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use api::Limits;
use serde_json::Value;
use sqlx::postgres::PgPoolOptions;
use tokio::{
    net::TcpListener,
    time::{Instant, timeout},
};

use super::fixtures::{TestApi, Workers, body, generous_limits, order, problem};
use crate::support::{Database, WAIT_TIMEOUT};

/// Limits under which requests that get no connection fail soon, and health answers soon.
fn quick_to_refuse() -> Limits {
    Limits {
        pool_timeout: Duration::from_millis(300),
        health_timeout: Duration::from_secs(1),
        request_timeout: 2 * WAIT_TIMEOUT,
        ..generous_limits()
    }
}

/// A pool whose requests wait for a connection longer than the test runs.
fn endless() -> PgPoolOptions {
    PgPoolOptions::new().max_connections(3).acquire_timeout(2 * WAIT_TIMEOUT)
}

#[tokio::test]
async fn an_exhausted_pool_is_answered_with_503_at_once_and_health_still_answers() {
    let database = Database::fresh().await;
    let pool = endless().connect(&database.url()).await.unwrap();
    let shop =
        TestApi::over(pool.clone(), Some(database), quick_to_refuse(), Workers::None, Vec::new()).await;
    let mut taken = Vec::new();
    for _ in 0..3 {
        taken.push(pool.acquire().await.unwrap());
    }
    let refused = async {
        // The first request may be admitted, because a connection was free a moment ago.
        while timeout(Duration::from_secs(1), shop.get("/api/products")).await.is_err() {}
        for _ in 0..20 {
            let response = shop.get("/api/products").await;
            assert_eq!(response.headers()["retry-after"], "1");
            problem(response, 503, "unavailable").await;
        }
    };
    timeout(WAIT_TIMEOUT, refused).await.expect("none waits for a connection");
    body(shop.get("/health/live").await, 200).await;
    let health = until_health(&shop, |health| health["parts"]["database"]["state"] == "degraded").await;
    assert_eq!(health["parts"]["queue"]["state"], "unknown");
    drop(taken);
    let open_again = async {
        while shop.get("/api/products").await.status() != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(WAIT_TIMEOUT, open_again).await.expect("the gate opens again");
    until_health(&shop, |health| health["status"] == "up").await;
}

/// Requests health until it matches; health is cached for a second.
async fn until_health(shop: &TestApi, is_so: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let health = shop.get("/health").await.json().await.unwrap();
        if is_so(&health) {
            return health;
        }
        assert!(begun.elapsed() < WAIT_TIMEOUT, "{health}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn concurrent_health_requests_share_one_check_of_the_database() {
    // A server that accepts connections and sends nothing.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nowhere = format!("postgres://nobody@{}/nothing", mute.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let listening = tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = mute.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            kept.push(stream);
        }
    });
    let pool = PgPoolOptions::new().connect_lazy(&nowhere).unwrap();
    let shop = TestApi::over(pool, None, quick_to_refuse(), Workers::None, Vec::new()).await;
    let begun = Instant::now();
    let asked = ["/health", "/health/ready"].into_iter().cycle().take(100).map(|path| shop.get(path));
    for answer in futures::future::join_all(asked).await {
        let health = body(answer, 503).await;
        assert_eq!(health["parts"]["database"]["detail"], "no answer within 1 s");
    }
    listening.abort();
    // A check takes a second here, and its result is cached for another.
    let most = 1 + usize::try_from(begun.elapsed().as_secs() / 2).unwrap();
    let connections = connections.load(Ordering::Relaxed);
    assert!((1..=most).contains(&connections), "{connections} connections, at most {most}");
}

#[tokio::test]
async fn without_a_database_the_process_is_alive_but_not_ready() {
    let nowhere = endless().connect_lazy("postgres://nobody@127.0.0.1:1/nothing").unwrap();
    let shop = TestApi::over(nowhere, None, quick_to_refuse(), Workers::None, Vec::new()).await;
    let answers = async {
        body(shop.get("/health/live").await, 200).await;
        let health = body(shop.get("/health/ready").await, 503).await;
        assert_eq!(health["status"], "down");
        assert_eq!(health["parts"]["database"]["state"], "down");
        assert_eq!(health["parts"]["queue"]["state"], "unknown");
        assert_eq!(health["parts"]["mail"]["state"], "up");
        problem(shop.get("/api/orders").await, 503, "unavailable").await;
        problem(shop.post("/api/orders", &order("TEA-1", 1)).await, 503, "unavailable").await;
        body(shop.get("/metrics").await, 200).await;
        body(shop.get("/openapi.json").await, 200).await;
    };
    timeout(WAIT_TIMEOUT, answers).await.expect("none waits for a connection");
}
