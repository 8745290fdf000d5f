//! `GET /api/events` as a client uses it.

use std::time::{Duration, Instant};

use api::{Access, Limits};
use serde_json::Value;
use shop::{
    commands,
    events::{self, LowWaterMarks},
    keys::{KeyRole, NewKey},
};
use sqlx::{Connection, PgConnection, PgPool};
use tokio::{task::JoinSet, time::timeout};

use super::{append, append_as, append_events, sequence};
use crate::{
    it::api::fixtures::{TestApi, Workers, generous_limits, problem},
    support::{Database, WAIT_TIMEOUT},
};

/// A client of server-sent events.
pub(super) struct Client {
    response: reqwest::Response,
    text: String,
    /// The value that a browser would send when it reconnects.
    pub(super) last_event_id: Option<String>,
}

impl Client {
    pub(super) async fn connect(shop: &TestApi, query: &str, last_event_id: Option<&str>) -> Self {
        let mut request = shop.request(reqwest::Method::GET, &format!("/api/events{query}"));
        if let Some(id) = last_event_id {
            request = request.header("Last-Event-ID", id);
        }
        Self::over(request, last_event_id).await
    }

    /// Connects as soon as a slot for a stream is free.
    pub(super) async fn connect_when_free(shop: &TestApi, query: &str) -> Self {
        let begun = Instant::now();
        loop {
            let request = shop.request(reqwest::Method::GET, &format!("/api/events{query}"));
            let response = request.send().await.unwrap();
            if response.status() == 200 {
                return Self { response, text: String::new(), last_event_id: None };
            }
            assert!(begun.elapsed() < WAIT_TIMEOUT, "no slot is free: {}", response.status());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn over(request: reqwest::RequestBuilder, last_event_id: Option<&str>) -> Self {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200, "{:?}", response.text().await);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new(), last_event_id: last_event_id.map(Into::into) }
    }

    /// The next block of the stream; `None` when the stream has ended.
    pub(super) async fn block(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let block = self.text.drain(..end + 2).collect::<String>();
                if let Some(id) = block.lines().find_map(|line| line.strip_prefix("id: ")) {
                    self.last_event_id = Some(id.into());
                }
                return Some(block);
            }
            let chunk = timeout(WAIT_TIMEOUT, self.response.chunk()).await.expect("a block arrives");
            self.text.push_str(std::str::from_utf8(&chunk.ok()??).unwrap());
        }
    }

    /// The next event; `None` when the stream has ended.
    pub(super) async fn event(&mut self) -> Option<Value> {
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

pub(super) async fn open(limits: Limits) -> (TestApi, PgPool) {
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
async fn an_invalid_stream_request_is_answered_with_a_problem_that_explains_it() {
    let (shop, pool) = open(generous_limits()).await;
    append_events(&pool, 5).await;
    events::prune(&pool, &LowWaterMarks::default(), Duration::ZERO, 3).await.unwrap();
    let ask = async |query: &str, headers: &[(&str, &str)]| {
        let request = shop.request(reqwest::Method::GET, &format!("/api/events{query}"));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.send().await.unwrap()
    };
    let gone = problem(ask("?after=2", &[]).await, 410, "events-gone").await;
    assert!(gone["detail"].as_str().unwrap().contains("after=3"), "{gone}");
    assert_eq!(gone["continue_after"], 3);
    let never = problem(ask("?after=6", &[]).await, 410, "events-gone").await;
    assert_eq!(never["continue_after"], 5, "the newest");
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
async fn a_stream_sends_past_and_new_events_that_match_its_filter() {
    let (shop, pool) =
        open(Limits { heartbeat_interval: Duration::from_millis(50), ..generous_limits() }).await;
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
    // A stream whose filter matches nothing still reports how far the event log is.
    while few.last_event_id.as_deref() != Some("5") {
        let block = few.block().await.unwrap();
        assert!(!block.contains("data:"), "{block}");
    }
}

#[tokio::test]
async fn a_stream_ends_at_its_time_limit_and_resumes_without_a_gap() {
    let (shop, pool) = open(Limits { max_stream_age: Duration::from_millis(300), ..generous_limits() }).await;
    append_events(&pool, 3).await;
    let (mut last, mut streams) = (0, 0);
    // Each stream ends at its time limit; the fourth event is appended after the first stream has ended.
    while last < 4 {
        let mut client = Client::connect(&shop, "", Some(&last.to_string())).await;
        while let Some(event) = client.event().await {
            last += 1;
            assert_eq!(event["event_id"], last);
        }
        if streams == 0 {
            append_events(&pool, 1).await;
        }
        streams += 1;
    }
    assert!(streams > 1, "one stream had them all");
}

#[tokio::test]
async fn the_stream_of_a_revoked_or_expired_key_ends_even_under_load() {
    let limits = Limits {
        heartbeat_interval: Duration::from_millis(200),
        key_cache_ttl: Duration::from_millis(100),
        ..generous_limits()
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
    let mut last = 0;
    // Without a pause in which a heartbeat could be sent.
    let mut tell_another = async || {
        append_events(pool, 1).await;
        last += 1;
        assert_eq!(all.event().await.unwrap()["event_id"], last, "the stream of the valid key continues");
    };
    tell_another().await;
    assert!(until_revoked.event().await.is_some());
    commands::revoke_key(pool, &revoked.0, None, &"test".into()).await.unwrap();
    let begun = Instant::now();
    let ended = async { while until_revoked.block().await.is_some() {} };
    let mut ended = std::pin::pin!(ended);
    while timeout(Duration::from_millis(20), &mut ended).await.is_err() {
        tell_another().await;
        assert!(begun.elapsed() < WAIT_TIMEOUT, "the stream of a revoked key continues");
    }
    let (brief_id, brief) = key("brief", Some(Duration::from_hours(1))).await;
    let mut until_expired = follow(&brief).await;
    assert!(until_expired.event().await.is_some());
    let expire = "update shop.api_key set created_at = now() - interval '2 h', expires_at = now() - interval '1 h' \
                  where key_id = $1";
    sqlx::query(expire).bind(&brief_id).execute(pool).await.unwrap();
    while until_expired.block().await.is_some() {}
    tell_another().await;
}

/// Commits events concurrently, in an order that differs from their numbers in the outbox.
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
async fn a_reconnecting_client_gets_every_event_once_despite_commits_out_of_order() {
    const WRITERS: usize = 4;
    const EACH: usize = 150;
    let (shop, pool, url) = open_with_url(generous_limits()).await;
    let mut numbering = JoinSet::new();
    for _ in 0..2 {
        let (pool, marks) = (pool.clone(), LowWaterMarks::default());
        numbering.spawn(async move {
            loop {
                events::sequence(&pool, &marks, rand::random_range(1..20)).await.unwrap();
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
    assert_eq!(events::last_event_id(&pool).await.unwrap(), total);
}

#[tokio::test]
async fn a_stop_ends_streams_at_once_and_they_resume_elsewhere() {
    let (mut shop, pool) = open(generous_limits()).await;
    append_events(&pool, 2).await;
    let mut live = Client::connect(&shop, "?after=0", None).await;
    assert_eq!(live.event().await.unwrap()["event_id"], 1);
    let drained = shop.close().await;
    assert_eq!(drained.cut, 0, "{drained:?}");
    while live.block().await.is_some() {}
    append_events(&pool, 2).await;
    let last: i64 = live.last_event_id.unwrap().parse().unwrap();

    let elsewhere = TestApi::over(pool, None, generous_limits(), Workers::None, Vec::new()).await;
    let mut again = Client::connect(&elsewhere, "", Some(&last.to_string())).await;
    for id in last + 1..=4 {
        assert_eq!(again.event().await.unwrap()["event_id"], id);
    }
}
