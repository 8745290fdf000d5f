//! Callers who read or send slowly: they hold a bounded number of places and bytes, and keep nothing from others.

use std::time::{Duration, Instant};

use api::Limits;
use reqwest::Method;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::fixtures::{TestApi, body, generous_limits, problem, product};
use crate::support::WAIT_TIMEOUT;

/// The path of a page with one item, which is larger than the sockets' buffers.
const LARGE_PAGE: &str = "/api/audit";
const LARGE: usize = 20_000_000;

async fn with_a_large_page(limits: Limits) -> TestApi {
    let shop = TestApi::without_workers(limits).await;
    let large = "insert into shop.audit (actor, action, subject_kind, subject_id, after)
                 values ('ann', 'stock.set', 'product', 'x', to_json(repeat('x', $1)))";
    sqlx::query(large).bind(i32::try_from(LARGE).unwrap()).execute(shop.engine.pool()).await.unwrap();
    shop
}

/// Asks for the large page, and reads only that it comes.
async fn ask_without_reading(shop: &TestApi) -> TcpStream {
    let mut stream = TcpStream::connect(shop.address).await.unwrap();
    let request = format!("GET {LARGE_PAGE} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 15];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    stream
}

/// Waits until a request is answered.
async fn until_answered(shop: &TestApi, path: &str) {
    let begun = Instant::now();
    while shop.get(path).await.status() != 200 {
        assert!(begun.elapsed() < WAIT_TIMEOUT, "{path} is not answered");
    }
}

#[tokio::test]
async fn a_response_that_is_not_read_keeps_the_place_of_its_request() {
    let shop = with_a_large_page(Limits { in_flight: 1, ..generous_limits() }).await;
    let slow = ask_without_reading(&shop).await;
    problem(shop.get("/api/products").await, 503, "overloaded").await;
    body(shop.get("/health/live").await, 200).await;
    drop(slow);
    until_answered(&shop, "/api/products").await;
}

#[tokio::test]
async fn large_responses_that_are_not_read_are_bounded_together_and_small_ones_are_not_refused() {
    let response_bytes = LARGE + LARGE / 2;
    let shop = with_a_large_page(Limits { response_bytes, ..generous_limits() }).await;
    let slow = ask_without_reading(&shop).await;
    problem(shop.get(LARGE_PAGE).await, 503, "overloaded").await;
    body(shop.get("/api/products").await, 200).await;
    drop(slow);
    until_answered(&shop, LARGE_PAGE).await;
}

#[tokio::test]
async fn a_caller_who_reads_a_little_now_and_then_is_cut_off() {
    let limits = Limits {
        in_flight: 1,
        write_timeout: Duration::from_secs(4),
        write_bytes_per_s: 10_000_000,
        ..generous_limits()
    };
    let shop = with_a_large_page(limits).await;
    let mut slow = ask_without_reading(&shop).await;
    // A write time-out alone would never end: the server can write something every few milliseconds.
    let reading = tokio::spawn(async move {
        let (mut some, mut all) = ([0; 16 * 1024], 0);
        while let Ok(read @ 1..) = slow.read(&mut some).await {
            all += read;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        all
    });
    let read = tokio::time::timeout(WAIT_TIMEOUT, reading).await.expect("it is cut off").unwrap();
    assert!(read < LARGE / 2, "it has got {read} bytes");
    until_answered(&shop, "/api/products").await;
}

/// Sends the head of a bulk import, and this much of its body.
async fn send_a_part(shop: &TestApi, length: usize, sent: usize) -> TcpStream {
    let mut stream = TcpStream::connect(shop.address).await.unwrap();
    let head = format!(
        "POST /api/products/bulk HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b' '; sent]).await.unwrap();
    stream
}

async fn import(shop: &TestApi) -> reqwest::Response {
    let batch = serde_json::json!({"items": [product("TEA-1", 1)]});
    shop.request(Method::POST, "/api/products/bulk").json(&batch).send().await.unwrap()
}

#[tokio::test]
async fn slow_uploads_keep_no_place_from_bulk_imports() {
    let shop = TestApi::without_workers(generous_limits()).await;
    let mut slow = Vec::new();
    for _ in 0..2 * Limits::default().concurrent_bulk {
        slow.push(send_a_part(&shop, 100_000, 1_000).await);
    }
    for _ in 0..20 {
        body(import(&shop).await, 200).await;
    }
    drop(slow);
}
