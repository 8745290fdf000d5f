//! Time-outs and limits of connections, and requests that are not HTTP.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

use api::{Access, Limits};

use super::fixtures::{TestApi, body, generous_limits, order};

use crate::support::WAIT_TIMEOUT;

/// Sends bytes and reads until the server closes the connection.
pub(crate) async fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may refuse and close before everything is sent.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    // A reset after the response counts as a close.
    let _ = timeout(WAIT_TIMEOUT, stream.read_to_end(&mut answer))
        .await
        .expect("the server closes the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn connections_without_a_complete_request_head_are_closed() {
    let short = Duration::from_millis(300);
    let limits = Limits { first_byte_timeout: short, header_timeout: short, ..generous_limits() };
    let shop = TestApi::without_workers(limits).await;
    for request_start in ["", "GET /heal", "GET /health/live HTTP/1.1\r\nHost: x\r\nX-Slow: "] {
        let answer = exchange(shop.address, request_start.as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{request_start:?}: {answer}");
    }
}

#[tokio::test]
async fn connections_that_stay_idle_after_a_response_are_closed() {
    let limits = Limits { header_timeout: Duration::from_millis(300), ..generous_limits() };
    let shop = TestApi::without_workers(limits).await;
    // The server closes only after the response: `exchange` reads to the end of the connection.
    until_answered(shop.address, "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n").await;
}

/// Repeats the request until it arrives in time and is answered with 200.
async fn until_answered(address: SocketAddr, request: &str) {
    let answered =
        async { while !exchange(address, request.as_bytes()).await.starts_with("HTTP/1.1 200 ") {} };
    timeout(WAIT_TIMEOUT, answered).await.expect("the server answers");
}

#[tokio::test]
async fn the_connections_of_an_address_are_limited_unless_it_is_a_trusted_proxy() {
    let limits = Limits { connections_per_address: 2, ..generous_limits() };
    let idle = async |shop: &TestApi| {
        let mut stream = TcpStream::connect(shop.address).await.unwrap();
        // The connection may be closed before everything is sent.
        let _ = stream.write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let mut head = [0; 15];
        let answered =
            timeout(WAIT_TIMEOUT, stream.read_exact(&mut head)).await.expect("it gets an answer or a close");
        answered.is_ok().then_some(stream)
    };
    let shop = TestApi::with_access_and_limits(Access::default(), limits).await;
    let (first, second) = (idle(&shop).await, idle(&shop).await);
    assert!(first.is_some() && second.is_some());
    assert!(idle(&shop).await.is_none(), "a third is closed");
    drop(first);
    let begun = Instant::now();
    while idle(&shop).await.is_none() {
        assert!(begun.elapsed() < WAIT_TIMEOUT, "a slot is free again");
    }
    let trusted_proxies = "127.0.0.0/8".parse().unwrap();
    let behind_proxy =
        TestApi::with_access_and_limits(Access { trusted_proxies, ..Access::default() }, limits).await;
    let mut open = Vec::new();
    for _ in 0..5 {
        open.push(idle(&behind_proxy).await.expect("a trusted proxy may open more connections"));
    }
}

#[tokio::test]
async fn a_stalled_body_is_answered_with_408() {
    let shop =
        TestApi::without_workers(Limits { body_timeout: Duration::from_millis(300), ..generous_limits() })
            .await;
    let head = "POST /api/orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{";
    let answer = exchange(shop.address, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("request-timeout"), "{answer}");
}

#[tokio::test]
async fn invalid_http_is_refused_and_the_server_keeps_running() {
    let short = Duration::from_millis(300);
    let limits = Limits { first_byte_timeout: short, header_timeout: short, ..generous_limits() };
    let shop = TestApi::without_workers(limits).await;
    for noise in
        [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"\r\n\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"]
    {
        let answer = exchange(shop.address, noise).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(100_000));
    let answer = exchange(shop.address, long.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    until_answered(shop.address, "GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
}

#[tokio::test]
async fn a_stop_lets_open_requests_finish_and_closes_idle_connections() {
    let mut shop = TestApi::without_workers(generous_limits()).await;
    shop.stock("TEA-1", 5).await;
    // No worker runs, so this request waits for the whole time that it asked for.
    let request = shop.request(reqwest::Method::POST, "/api/orders").header("Prefer", "wait=2");
    let waiting = tokio::spawn(request.json(&order("TEA-1", 1)).send());
    let idle = TcpStream::connect(shop.address).await.unwrap();
    while body(shop.get("/api/orders").await, 200).await["items"].as_array().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    let drained = timeout(WAIT_TIMEOUT / 2, shop.close()).await.expect("the stop is not delayed");
    assert_eq!(drained.cut, 0, "{drained:?}");
    let answer = waiting.await.unwrap().unwrap();
    assert_eq!(body(answer, 201).await["status"], "pending");
    drop(idle);
    TcpStream::connect(shop.address).await.unwrap_err();
}
