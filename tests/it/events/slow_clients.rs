//! `GET /api/events` for clients that read slowly or not at all, and for many at once.

use std::time::{Duration, Instant};

use api::Limits;
use sqlx::{Connection, PgConnection, PgPool};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    append, append_as, append_events, sequence,
    streams::{Client, open},
};
use crate::{
    it::api::fixtures::{TestApi, Workers, generous_limits, problem},
    support::{Database, WAIT_TIMEOUT},
};

/// A stream whose client has read only the head of the response.
async fn connect_and_read_only_the_head(shop: &TestApi) -> TcpStream {
    let mut slow = TcpStream::connect(shop.address).await.unwrap();
    slow.write_all(b"GET /api/events?after=0 HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut head = [0; 15];
    slow.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    slow
}

/// Waits until a stream can be opened.
async fn wait_for_a_free_slot(shop: &TestApi) {
    let begun = Instant::now();
    while shop.get("/api/events").await.status() != 200 {
        assert!(begun.elapsed() < WAIT_TIMEOUT, "the slow client still has its slot");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_disconnected_and_does_not_delay_others() {
    let limits = Limits { event_streams: 2, write_timeout: Duration::from_millis(300), ..generous_limits() };
    let (shop, pool) = open(limits).await;
    let slow = connect_and_read_only_the_head(&shop).await;
    // The events that match this client's filter are small, so its socket buffers all of them however rarely it reads.
    let mut quick = Client::connect(&shop, "?after=0&topics=inventory.low", None).await;
    problem(shop.get("/api/events").await, 503, "overloaded").await;

    // These are more events than both sockets buffer, so that the server can't write any more.
    let large = format!("\"{}\"", "x".repeat(60_000));
    let mut conn = pool.acquire().await.unwrap();
    for _ in 0..400 {
        append(&mut conn, "k", &large).await;
        append_as(&mut conn, "inventory.low", "k", "{}").await;
    }
    sequence(&pool).await;
    for id in 1..=400 {
        assert_eq!(quick.event().await.unwrap()["event_id"], 2 * id);
    }
    wait_for_a_free_slot(&shop).await;
    drop(slow);
}

/// Appends so many events that a slow stream falls behind the buffer.
async fn append_burst(shop: &TestApi, pool: &PgPool) {
    let mut quick = Client::connect_when_free(shop, "").await;
    // These are more events than both sockets buffer, so that the server can't write any more, and then more than is
    // buffered.
    let large = format!("\"{}\"", "x".repeat(60_000));
    let mut conn = pool.acquire().await.unwrap();
    for _ in 0..400 {
        append(&mut conn, "large", &large).await;
    }
    for _ in 0..1_200 {
        append(&mut conn, "small", "{}").await;
    }
    drop(conn);
    sequence(pool).await;
    // Once a stream from before the burst has all events, they were sent to all streams. It reconnects whenever it is
    // disconnected.
    let mut id = 0;
    while id < 1_600 {
        match quick.event().await {
            Some(event) => {
                id += 1;
                assert_eq!(event["event_id"], id);
            }
            None => quick = Client::connect_when_free(shop, &format!("?after={id}")).await,
        }
    }
}

#[tokio::test]
async fn a_client_that_lags_behind_a_burst_gets_the_rest_from_the_table() {
    let (shop, pool) = open(generous_limits()).await;
    let mut slow = connect_and_read_only_the_head(&shop).await;
    append_burst(&shop, &pool).await;
    let (mut text, mut some) = (Vec::new(), vec![0; 256 * 1024]);
    let last = b"id: 1600\n";
    while !text.windows(last.len()).any(|window| window == last) {
        let read = timeout(WAIT_TIMEOUT, slow.read(&mut some)).await.expect("a block arrives").unwrap();
        assert!(read > 0, "it was cut off");
        // Only the ids are compared.
        text = text.split_off(text.len().saturating_sub(64 * 1024));
        text.extend_from_slice(&some[..read]);
    }
}

/// Reads slowly, a few bytes at a time.
async fn trickle(mut stream: TcpStream) {
    let mut some = vec![0; 64 * 1024];
    loop {
        let _ = timeout(Duration::from_millis(50), stream.read(&mut some)).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_client_that_reads_too_slowly_is_disconnected() {
    let limits = Limits { event_streams: 2, write_timeout: Duration::from_secs(1), ..generous_limits() };
    let (shop, pool) = open(limits).await;
    let trickling = tokio::spawn(trickle(connect_and_read_only_the_head(&shop).await));
    append_burst(&shop, &pool).await;
    // One slot is held by a client that gets no events, so the other is free only when the slow client is disconnected.
    let _place = Client::connect_when_free(&shop, "?topics=notification.failed").await;
    wait_for_a_free_slot(&shop).await;
    trickling.abort();
}

#[tokio::test]
async fn a_burst_does_not_end_streams_whose_clients_keep_up() {
    let (shop, pool) = open(generous_limits()).await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(Client::connect(&shop, "", None).await);
    }
    for client in &mut clients {
        client.block().await.unwrap();
    }
    let all = clients.into_iter().map(|mut client| async move {
        for id in 1..=5_000 {
            assert_eq!(client.event().await.unwrap()["event_id"], id);
        }
    });
    let appending = async {
        let append = "insert into shop.outbox (routing_key, key, payload) \
                      select 'product.updated', n::text, '{}' from generate_series(1, 5000) n";
        sqlx::query(append).execute(&pool).await.unwrap();
        sequence(&pool).await;
    };
    tokio::join!(futures::future::join_all(all), appending);
}

#[tokio::test]
async fn streams_that_catch_up_leave_connections_to_requests() {
    let database = Database::fresh().await;
    let mut elsewhere = PgConnection::connect(&database.owner_url()).await.unwrap();
    let options = sqlx::postgres::PgPoolOptions::new().max_connections(5);
    let pool = options.connect(&database.url()).await.unwrap();
    append_events(&pool, 3_000).await;
    let limits = Limits {
        heartbeat_interval: Duration::from_millis(500),
        pool_timeout: Limits::default().pool_timeout,
        ..generous_limits()
    };
    let shop = TestApi::over(pool, Some(database), limits, Workers::None, Vec::new()).await;
    let query = "?topics=notification.failed";
    let mut streams = Vec::new();
    for _ in 0..50 {
        streams.push(Client::connect(&shop, query, Some("0")).await);
    }
    // From here on a stream that reads the table keeps its connection.
    let mut lock = elsewhere.begin().await.unwrap();
    sqlx::query("lock table shop.event in access exclusive mode").execute(&mut *lock).await.unwrap();
    let waits = "select exists (select from pg_stat_activity where datname = current_database()
                 and wait_event_type = 'Lock')";
    while !sqlx::query_scalar::<_, bool>(waits).fetch_one(&mut *lock).await.unwrap() {
        tokio::task::yield_now().await;
    }
    for _ in 0..5 {
        assert_eq!(shop.get("/api/products").await.status(), 200);
    }
    lock.rollback().await.unwrap();
    for stream in &mut streams {
        while stream.last_event_id.as_deref() != Some("3000") {
            // A read that waits too long for the lock ends its stream, and the client reconnects.
            if stream.block().await.is_none() {
                let last = stream.last_event_id.clone();
                *stream = Client::connect(&shop, query, last.as_deref()).await;
            }
        }
    }
}
