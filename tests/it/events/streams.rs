//! `GET /api/events`, as a client follows it.

use std::time::{Duration, Instant};

use api::{Access, Limits};
use serde_json::Value;
use shop::{
    commands, events,
    keys::{KeyRole, NewKey},
};
use sqlx::{Connection, PgConnection, PgPool};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use super::{append, append_as, sequence, tell};
use crate::{
    it::api::fixtures::{TestApi, Workers, problem, short_timeouts},
    support::{Database, WAIT_TIMEOUT},
};

/// A client of server-sent events.
struct Client {
    response: reqwest::Response,
    text: String,
    /// What a browser would send when it connects again.
    last_event_id: Option<String>,
}

impl Client {
    async fn connect(shop: &TestApi, query: &str, last_event_id: Option<&str>) -> Self {
        let mut request = shop.request(reqwest::Method::GET, &format!("/api/events{query}"));
        if let Some(id) = last_event_id {
            request = request.header("Last-Event-ID", id);
        }
        Self::over(request, last_event_id).await
    }

    async fn over(request: reqwest::RequestBuilder, last_event_id: Option<&str>) -> Self {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200, "{:?}", response.text().await);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new(), last_event_id: last_event_id.map(Into::into) }
    }

    /// The next block of the stream, whatever it is; `None` when the stream has ended.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let block = self.text.drain(..end + 2).collect::<String>();
                if let Some(id) = block.lines().find_map(|line| line.strip_prefix("id: ")) {
                    self.last_event_id = Some(id.into());
                }
                return Some(block);
            }
            let chunk = timeout(WAIT_TIMEOUT, self.response.chunk()).await.expect("something is heard");
            self.text.push_str(std::str::from_utf8(&chunk.ok()??).unwrap());
        }
    }

    /// The next event; `None` when the stream has ended.
    async fn event(&mut self) -> Option<Value> {
        loop {
            let block = self.block().await?;
            if let Some(data) = block.lines().find_map(|line| line.strip_prefix("data: ")) {
                let event: Value = serde_json::from_str(data).unwrap();
                assert_eq!(event["event_id"].to_string(), self.last_event_id.clone().unwrap());
                return Some(event);
            }
        }
    }
}

async fn open(limits: Limits) -> (TestApi, PgPool) {
    let (shop, pool, _) = open_with_url(limits).await;
    (shop, pool)
}

async fn open_with_url(limits: Limits) -> (TestApi, PgPool, String) {
    let database = Database::fresh().await;
    let url = database.url();
    let pool = database.pool().await;
    let shop = TestApi::over(pool.clone(), Some(database), limits, Workers::None, Vec::new()).await;
    (shop, pool, url)
}

#[tokio::test]
async fn what_can_not_be_followed_is_a_problem_that_says_why() {
    let (shop, pool) = open(Limits::default()).await;
    tell(&pool, 5).await;
    events::prune(&pool, Duration::ZERO, 3).await.unwrap();
    let ask = async |query: &str, headers: &[(&str, &str)]| {
        let request = shop.request(reqwest::Method::GET, &format!("/api/events{query}"));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.send().await.unwrap()
    };
    let gone = problem(ask("?after=2", &[]).await, 410, "events-gone").await;
    assert!(gone["detail"].as_str().unwrap().contains("after=3"), "{gone}");
    problem(ask("?after=6", &[]).await, 410, "events-gone").await;
    problem(ask("?after=3", &[("Last-Event-ID", "2")]).await, 410, "events-gone").await;
    problem(ask("", &[("Last-Event-ID", "two")]).await, 400, "invalid-header").await;
    problem(ask("", &[("Accept", "application/json")]).await, 406, "not-acceptable").await;
    for query in ["?after=-1", "?after=x", "?topics=", "?topics=Order", "?topics=a..b", "?topic=order.*"] {
        problem(ask(query, &[]).await, 400, "invalid-parameter").await;
    }
    let mut rest = Client::connect(&shop, "?after=3", None).await;
    assert_eq!(rest.event().await.unwrap()["event_id"], 4);
}

#[tokio::test]
async fn a_stream_gives_what_was_and_what_comes_and_only_what_is_wanted() {
    let (shop, pool) =
        open(Limits { heartbeat_interval: Duration::from_millis(50), ..short_timeouts() }).await;
    let mut conn = pool.acquire().await.unwrap();
    append_as(&mut conn, "order.created", "1", r#"{"text":"two\nlines"}"#).await;
    append_as(&mut conn, "inventory.updated", "T", "{}").await;
    append_as(&mut conn, "inventory.low", "T", "{}").await;
    sequence(&pool).await;
    let mut all = Client::connect(&shop, "?after=0&topics=order.*,inventory.low", None).await;
    let mut few = Client::connect(&shop, "?topics=notification.*", None).await;
    let first = all.event().await.unwrap();
    assert_eq!(first["payload"]["text"], "two\nlines");
    assert_eq!((&first["routing_key"], &first["key"]), (&"order.created".into(), &"1".into()));
    assert!(first["at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(all.event().await.unwrap()["event_id"], 3);

    append_as(&mut conn, "order.confirmed", "1", "{}").await;
    append_as(&mut conn, "inventory.updated", "T", "{}").await;
    sequence(&pool).await;
    assert_eq!(all.event().await.unwrap()["routing_key"], "order.confirmed");
    // Who wants nothing of it learns all the same how far the log is.
    while few.last_event_id.as_deref() != Some("5") {
        let block = few.block().await.unwrap();
        assert!(!block.contains("data:"), "{block}");
    }
}

#[tokio::test]
async fn a_stream_ends_after_its_time_and_goes_on_where_it_was() {
    let (shop, pool) = open(Limits { max_stream_age: Duration::from_millis(100), ..Limits::default() }).await;
    tell(&pool, 3).await;
    let mut client = Client::connect(&shop, "?after=0", None).await;
    while client.block().await.is_some() {}
    let last: i64 = client.last_event_id.unwrap().parse().unwrap();
    tell(&pool, 1).await;
    let mut again = Client::connect(&shop, "", Some(&last.to_string())).await;
    assert_eq!(again.event().await.unwrap()["event_id"], last + 1);
}

#[tokio::test]
async fn a_key_that_is_revoked_or_expires_follows_no_longer_however_much_happens() {
    let limits = Limits {
        heartbeat_interval: Duration::from_millis(200),
        key_cache_ttl: Duration::from_millis(100),
        ..Limits::default()
    };
    let shop = TestApi::with_access_and_limits(Access::default(), limits).await;
    let pool = shop.engine.pool();
    let key = async |name: &str, life: Option<Duration>| {
        let new = NewKey { name: name.into(), role: KeyRole::Read, life };
        let (key, token) = commands::create_key(pool, &new, None, &"test".into()).await.unwrap();
        (key.key_id, token.expose())
    };
    let follow = |token: &str| {
        Client::over(shop.request(reqwest::Method::GET, "/api/events?after=0").bearer_auth(token), None)
    };
    let (good, revoked) = (key("good", None).await, key("revoked", None).await);
    let (mut all, mut until_revoked) = (follow(&good.1).await, follow(&revoked.1).await);
    let mut told = 0;
    // Without a pause for a heartbeat.
    let mut tell_another = async || {
        tell(pool, 1).await;
        told += 1;
        assert_eq!(all.event().await.unwrap()["event_id"], told, "whose key is good goes on");
    };
    tell_another().await;
    assert!(until_revoked.event().await.is_some());
    commands::revoke_key(pool, &revoked.0, None, &"test".into()).await.unwrap();
    let begun = Instant::now();
    let ended = async { while until_revoked.block().await.is_some() {} };
    let mut ended = std::pin::pin!(ended);
    while timeout(Duration::from_millis(20), &mut ended).await.is_err() {
        tell_another().await;
        assert!(begun.elapsed() < WAIT_TIMEOUT, "the stream of a revoked key goes on");
    }
    // The key holds for two seconds from here, its stream for a few tenths more.
    let (_, brief) = key("brief", Some(Duration::from_secs(2))).await;
    let mut until_expired = follow(&brief).await;
    assert!(until_expired.event().await.is_some());
    while until_expired.block().await.is_some() {}
    tell_another().await;
}

/// Commits events side by side, in another order than that of their numbers in the outbox.
async fn write(url: String, count: usize) {
    let mut pairs = Vec::new();
    for _ in 0..2 {
        pairs.push(PgConnection::connect(&url).await.unwrap());
    }
    let [slow, quick] = &mut pairs[..] else { unreachable!("there are two") };
    for _ in 0..count / 2 {
        let mut early = slow.begin().await.unwrap();
        append(&mut early, "early", "{}").await;
        let mut late = quick.begin().await.unwrap();
        append(&mut late, "late", "{}").await;
        late.commit().await.unwrap();
        tokio::time::sleep(Duration::from_millis(rand::random_range(0..3))).await;
        early.commit().await.unwrap();
    }
}

#[tokio::test]
async fn a_client_that_comes_and_goes_gets_every_event_once_while_commits_come_out_of_order() {
    const WRITERS: usize = 4;
    const EACH: usize = 150;
    let (shop, pool, url) = open_with_url(Limits::default()).await;
    let mut numbering = JoinSet::new();
    for _ in 0..2 {
        let pool = pool.clone();
        numbering.spawn(async move {
            loop {
                events::sequence(&pool, rand::random_range(1..20)).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
    }
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        writers.spawn(write(url.clone(), EACH));
    }
    let total = i64::try_from(WRITERS * EACH).unwrap();
    let (mut seen, mut connections) = (Vec::new(), 0);
    let mut last = "0".to_owned();
    while seen.len() < WRITERS * EACH {
        connections += 1;
        let mut client = Client::connect(&shop, "", Some(&last)).await;
        for _ in 0..rand::random_range(1..40) {
            if seen.len() == WRITERS * EACH {
                break;
            }
            seen.push(client.event().await.unwrap()["event_id"].as_i64().unwrap());
        }
        last = client.last_event_id.unwrap();
    }
    writers.join_all().await;
    numbering.shutdown().await;
    assert_eq!(seen, (1..=total).collect::<Vec<_>>());
    assert!(connections > 10, "{connections}");
    assert_eq!(events::log_range(&pool).await.unwrap().last_event_id, total);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_dropped_and_holds_nobody_up() {
    let limits = Limits { event_streams: 2, write_timeout: Duration::from_millis(300), ..Limits::default() };
    let (shop, pool) = open(limits).await;
    let mut slow = TcpStream::connect(shop.address).await.unwrap();
    slow.write_all(b"GET /api/events?after=0 HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut head = [0; 15];
    slow.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    let mut quick = Client::connect(&shop, "?after=0", None).await;
    problem(shop.get("/api/events").await, 503, "overloaded").await;

    // More than the sockets between them hold, so that the server can't write any more.
    let large = format!("\"{}\"", "x".repeat(60_000));
    let mut conn = pool.acquire().await.unwrap();
    for _ in 0..400 {
        append(&mut conn, "k", &large).await;
    }
    sequence(&pool).await;
    for id in 1..=400 {
        assert_eq!(quick.event().await.unwrap()["event_id"], id);
    }
    let begun = Instant::now();
    while shop.get("/api/events").await.status() != 200 {
        assert!(begun.elapsed() < WAIT_TIMEOUT, "the slow client still has its place");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(slow);
}

#[tokio::test]
async fn a_stop_ends_streams_at_once_and_they_resume_elsewhere() {
    let (mut shop, pool) = open(Limits::default()).await;
    tell(&pool, 2).await;
    let mut live = Client::connect(&shop, "?after=0", None).await;
    assert_eq!(live.event().await.unwrap()["event_id"], 1);
    let drained = shop.close().await;
    assert_eq!(drained.cut, 0, "{drained:?}");
    while live.block().await.is_some() {}
    tell(&pool, 2).await;
    let last: i64 = live.last_event_id.unwrap().parse().unwrap();

    let elsewhere = TestApi::over(pool, None, Limits::default(), Workers::None, Vec::new()).await;
    let mut again = Client::connect(&elsewhere, "", Some(&last.to_string())).await;
    for id in last + 1..=4 {
        assert_eq!(again.event().await.unwrap()["event_id"], id);
    }
}

/// Reads what is in the sockets, and no more than a little at a time.
async fn trickle(stream: &mut TcpStream) {
    let mut some = vec![0; 16 * 1024];
    let _ = timeout(Duration::from_millis(50), stream.read(&mut some)).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
}

/// A stream whose caller has not read for so long that what waits for it was overtaken.
async fn overtaken(shop: &TestApi, pool: &PgPool) -> TcpStream {
    let mut slow = TcpStream::connect(shop.address).await.unwrap();
    slow.write_all(b"GET /api/events HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut head = [0; 15];
    slow.read_exact(&mut head).await.unwrap();
    let mut quick = Client::connect(shop, "", None).await;
    // More than the sockets between them hold, so that the server can't write any more, then more than is buffered.
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
    for id in 1..=1_600 {
        assert_eq!(quick.event().await.unwrap()["event_id"], id);
    }
    slow
}

#[tokio::test]
async fn a_client_that_was_overtaken_by_a_burst_gets_the_rest_from_the_table() {
    let (shop, pool) = open(Limits::default()).await;
    let mut slow = overtaken(&shop, &pool).await;
    let (mut text, mut some) = (Vec::new(), vec![0; 256 * 1024]);
    let last = b"id: 1600\n";
    while !text.windows(last.len()).any(|window| window == last) {
        let read = timeout(WAIT_TIMEOUT, slow.read(&mut some)).await.expect("something is heard").unwrap();
        assert!(read > 0, "it was cut off");
        // The ids are what is looked at.
        text = text.split_off(text.len().saturating_sub(64 * 1024));
        text.extend_from_slice(&some[..read]);
    }
}

#[tokio::test]
async fn a_client_that_stays_behind_is_dropped_though_it_reads_a_little() {
    let limits = Limits { event_streams: 2, write_timeout: Duration::from_secs(1), ..Limits::default() };
    let (shop, pool) = open(limits).await;
    let mut slow = overtaken(&shop, &pool).await;
    let _place = Client::connect(&shop, "", None).await;
    let begun = Instant::now();
    while shop.get("/api/events").await.status() != 200 {
        assert!(begun.elapsed() < WAIT_TIMEOUT, "the slow client still has its place");
        trickle(&mut slow).await;
    }
}

#[tokio::test]
async fn a_burst_ends_no_stream_whose_client_keeps_up() {
    let (shop, pool) = open(Limits::default()).await;
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
    let told = async {
        let append = "insert into shop.outbox (routing_key, key, payload) \
                      select 'product.updated', n::text, '{}' from generate_series(1, 5000) n";
        sqlx::query(append).execute(&pool).await.unwrap();
        sequence(&pool).await;
    };
    tokio::join!(futures::future::join_all(all), told);
}

#[tokio::test]
async fn streams_that_catch_up_leave_connections_to_requests() {
    let database = Database::fresh().await;
    let pool = sqlx::postgres::PgPoolOptions::new()
        .max_connections(5)
        .acquire_timeout(Duration::from_millis(200))
        .connect(&database.url())
        .await
        .unwrap();
    tell(&pool, 3_000).await;
    let limits = Limits { heartbeat_interval: Duration::from_millis(500), ..Limits::default() };
    let shop = TestApi::over(pool, Some(database), limits, Workers::None, Vec::new()).await;
    let mut streams = Vec::new();
    for _ in 0..50 {
        streams.push(Client::connect(&shop, "?after=0&topics=notification.failed", None).await);
    }
    for _ in 0..30 {
        assert_eq!(shop.get("/api/products").await.status(), 200);
    }
    for stream in &mut streams {
        while stream.last_event_id.as_deref() != Some("3000") {
            stream.block().await.unwrap();
        }
    }
}
