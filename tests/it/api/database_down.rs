//! Without a database, or without a connection to it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sqlx::postgres::PgPoolOptions;
use tokio::{net::TcpListener, time::Instant};

use super::fixtures::{TestApi, Workers, body, order, problem, short_timeouts};
use crate::support::Database;

#[tokio::test]
async fn an_exhausted_pool_is_a_503_at_once_and_health_stays_up() {
    let database = Database::fresh().await;
    let options = PgPoolOptions::new().max_connections(3).acquire_timeout(Duration::from_secs(1));
    let pool = options.connect(&database.url()).await.unwrap();
    let shop = TestApi::over(pool.clone(), Some(database), short_timeouts(), Workers::None, Vec::new()).await;
    shop.stock("TEA-1", 1).await;
    let mut taken = Vec::new();
    for _ in 0..3 {
        taken.push(pool.acquire().await.unwrap());
    }
    // The first may have to find out.
    let _ = shop.get("/api/products").await;
    let _ = shop.get("/api/products").await;
    let begun = Instant::now();
    for _ in 0..20 {
        let response = shop.get("/api/products").await;
        assert_eq!(response.headers()["retry-after"], "1");
        problem(response, 503, "unavailable").await;
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    body(shop.get("/health/live").await, 200).await;
    let health = body(shop.get("/health/ready").await, 200).await;
    assert_eq!(health["parts"]["database"]["state"], "degraded", "{health}");
    assert_eq!(health["parts"]["queue"]["state"], "unknown");
    drop(taken);
    let deadline = Instant::now() + Duration::from_secs(10);
    while shop.get("/api/products").await.status() != 200 {
        assert!(Instant::now() < deadline, "the gate opens again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // What was seen a moment ago is told for a second.
    while body(shop.get("/health").await, 200).await["status"] != "up" {
        assert!(Instant::now() < deadline, "health sees it too");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn however_many_ask_for_health_at_once_the_database_is_asked_by_one() {
    // A server that takes connections and says nothing.
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
    let shop = TestApi::over(pool, None, short_timeouts(), Workers::None, Vec::new()).await;
    let asked = ["/health", "/health/ready"].into_iter().cycle().take(100).map(|path| shop.get(path));
    for answer in futures::future::join_all(asked).await {
        let health = body(answer, 503).await;
        assert_eq!(health["parts"]["database"]["detail"], "no answer within 1 s");
    }
    listening.abort();
    // One look; a second one if some of them came only when the first was over.
    let connections = connections.load(Ordering::Relaxed);
    assert!((1..=2).contains(&connections), "{connections} connections");
}

#[tokio::test]
async fn without_a_database_the_process_lives_and_says_that_it_is_not_ready() {
    let options = PgPoolOptions::new().acquire_timeout(Duration::from_secs(2));
    let nowhere = options.connect_lazy("postgres://nobody@127.0.0.1:1/nothing").unwrap();
    let shop = TestApi::over(nowhere, None, short_timeouts(), Workers::None, Vec::new()).await;
    let begun = Instant::now();
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
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}
