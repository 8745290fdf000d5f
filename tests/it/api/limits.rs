//! Rate limits, trusted proxies, and the headers that browsers need.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use api::{Access, Auth, CorsOrigins, Limits, RateDecision, SharedLimiter};
use reqwest::{Method, Response};
use serde_json::json;
use shop::{commands, keys::KeyRole};

use crate::support::WAIT_TIMEOUT;

use super::{
    access::{key, with},
    fixtures::{TestApi, body, generous_limits, order, problem, product},
};

/// Keys may call twice an hour and addresses three times, so that no call is regained during a test.
async fn strict() -> TestApi {
    let rate = |text: &str| Some(text.parse().unwrap());
    TestApi::with_access(Access {
        rate_per_key: rate("2/h"),
        rate_per_address: rate("3/h"),
        ..Access::default()
    })
    .await
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response
        .headers()
        .get(name)
        .unwrap_or_else(|| panic!("no {name} in {:?}", response.headers()))
        .to_str()
        .unwrap()
}

#[tokio::test]
async fn a_key_above_its_rate_gets_429_with_retry_after_and_others_are_not_affected() {
    let shop = strict().await;
    let (_, ann) = key(&shop, "ann", KeyRole::Read).await;
    let (_, bob) = key(&shop, "bob", KeyRole::Read).await;
    let get = |token: &str| with(&shop, token, Method::GET, "/api/orders").send();
    for left in ["1", "0"] {
        let response = get(&ann).await.unwrap();
        assert_eq!(header(&response, "ratelimit-policy"), "\"key\";q=2;w=3600");
        assert_eq!(
            (header(&response, "ratelimit-limit"), header(&response, "ratelimit-remaining")),
            ("2", left)
        );
        assert!(header(&response, "ratelimit").starts_with(&format!("\"key\";r={left};t=")));
        body(response, 200).await;
    }
    let refused = get(&ann).await.unwrap();
    let wait: u64 = header(&refused, "retry-after").parse().unwrap();
    assert!((1..=1800).contains(&wait), "{wait}");
    let problem_body = problem(refused, 429, "rate-limited").await;
    assert_eq!(problem_body["detail"], "2 requests an hour are allowed for each key");
    body(get(&bob).await.unwrap(), 200).await;
    // A call that the key's role does not permit counts, too.
    let forbidden = with(&shop, &bob, Method::GET, "/api/audit").send().await.unwrap();
    problem(forbidden, 403, "forbidden").await;
    problem(get(&bob).await.unwrap(), 429, "rate-limited").await;
}

#[tokio::test]
async fn guessing_keys_is_limited_by_the_rate_of_the_address() {
    let shop = strict().await;
    let guess = |nth: usize| format!("sgl_{nth:016x}_{}", "0".repeat(64));
    for nth in 0..3 {
        let refused = with(&shop, &guess(nth), Method::GET, "/api/orders").send().await.unwrap();
        assert_eq!(header(&refused, "ratelimit-remaining"), (2 - nth).to_string());
        problem(refused, 401, "unauthenticated").await;
    }
    let refused = with(&shop, &guess(3), Method::GET, "/api/orders").send().await.unwrap();
    header(&refused, "retry-after");
    problem(refused, 429, "rate-limited").await;
    problem(shop.get("/api/orders").await, 429, "rate-limited").await;
    problem(shop.get("/no/such/path").await, 429, "rate-limited").await;
    problem(shop.get("/openapi.json").await, 429, "rate-limited").await;
    // Health is not limited, so that operators can always see it.
    for path in ["/health/live", "/health/ready", "/health"] {
        body(shop.get(path).await, 200).await;
    }
}

#[tokio::test]
async fn a_wrong_secret_of_a_known_key_counts_against_the_address_and_not_the_key() {
    let shop = strict().await;
    let (id, token) = key(&shop, "ann", KeyRole::Read).await;
    body(with(&shop, &token, Method::GET, "/api/orders").send().await.unwrap(), 200).await;
    let wrong = format!("sgl_{id}_{}", "0".repeat(64));
    for _ in 0..2 {
        problem(
            with(&shop, &wrong, Method::GET, "/api/orders").send().await.unwrap(),
            401,
            "unauthenticated",
        )
        .await;
    }
    problem(with(&shop, &wrong, Method::GET, "/api/orders").send().await.unwrap(), 429, "rate-limited").await;
    body(with(&shop, &token, Method::GET, "/api/orders").send().await.unwrap(), 200).await;
}

#[tokio::test]
async fn an_exhausted_address_does_not_lock_out_a_known_key() {
    let access = Access { rate_per_address: Some("3/h".parse().unwrap()), ..Access::default() };
    let memory = Duration::from_millis(100);
    let shop =
        TestApi::with_access_and_limits(access, Limits { key_cache_ttl: memory, ..generous_limits() }).await;
    let (id, token) = key(&shop, "ann", KeyRole::Read).await;
    let get = || with(&shop, &token, Method::GET, "/api/orders").send();
    body(get().await.unwrap(), 200).await;
    while shop.get("/openapi.json").await.status() != 429 {}
    // This wait is longer than a key is cached, so that the database is asked for it again.
    let begun = Instant::now();
    while begun.elapsed() < memory * 5 {
        body(get().await.unwrap(), 200).await;
    }
    // An unknown key of that address is still not looked up.
    let wrong = format!("sgl_{id}_{}", "0".repeat(64));
    problem(with(&shop, &wrong, Method::GET, "/api/orders").send().await.unwrap(), 429, "rate-limited").await;
    let (_, unseen) = key(&shop, "bob", KeyRole::Read).await;
    problem(with(&shop, &unseen, Method::GET, "/api/orders").send().await.unwrap(), 429, "rate-limited")
        .await;
    // A revoked key counts as unknown.
    commands::revoke_key(shop.engine.pool(), &id, None, &"test".into()).await.unwrap();
    while get().await.unwrap().status() == 200 {
        assert!(begun.elapsed() < WAIT_TIMEOUT, "a revoked key is forgotten");
    }
    problem(get().await.unwrap(), 429, "rate-limited").await;
}

#[tokio::test]
async fn the_shared_rate_limiter_is_asked_first() {
    struct Full;
    impl SharedLimiter for Full {
        fn take<'a>(
            &'a self,
            bucket: &'a str,
            _: api::Rate,
        ) -> futures::future::BoxFuture<'a, Option<RateDecision>> {
            assert!(bucket.starts_with("address:"), "{bucket}");
            Box::pin(async { Some(RateDecision { wait: Some(Duration::from_secs(7)), remaining: 0 }) })
        }
    }
    let access = Access {
        auth: Auth::Off,
        rate_per_address: Some("1000/s".parse().unwrap()),
        shared_limiter: Some(Arc::new(Full)),
        ..Access::default()
    };
    let shop = TestApi::with_access(access).await;
    let refused = shop.get("/api/orders").await;
    assert_eq!(header(&refused, "retry-after"), "7");
    problem(refused, 429, "rate-limited").await;
}

/// The address that the audit records, by what the caller claims.
async fn recorded_address(proxies: &str, forwarded: &[&str]) -> String {
    let access = Access { auth: Auth::Off, trusted_proxies: proxies.parse().unwrap(), ..Access::default() };
    let shop = TestApi::with_access(access).await;
    let mut request = shop.request(Method::POST, "/api/products");
    for line in forwarded {
        request = request.header("X-Forwarded-For", *line);
    }
    body(request.json(&product("TEA-1", 1)).send().await.unwrap(), 201).await;
    let list = body(shop.get("/api/audit?action=product.create").await, 200).await;
    list["items"][0]["address"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn only_a_trusted_proxy_may_name_the_address_of_the_caller() {
    assert_eq!(recorded_address("10.0.0.0/8", &["203.0.113.9"]).await, "127.0.0.1");
    assert_eq!(recorded_address("127.0.0.0/8", &["6.6.6.6, 203.0.113.9"]).await, "203.0.113.9");
    assert_eq!(
        recorded_address("127.0.0.1,10.0.0.0/8", &["6.6.6.6", "203.0.113.9, 10.1.1.1"]).await,
        "203.0.113.9"
    );
}

#[tokio::test]
async fn every_response_forbids_browsers_to_run_scripts_in_it() {
    let shop = super::access::with_access().await;
    for (path, status) in [
        ("/health/live", 200),
        ("/api/orders", 401),
        ("/nowhere", 404),
        ("/openapi.json", 200),
        ("/docs/", 200),
    ] {
        let response = shop.get(path).await;
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(header(&response, "x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header(&response, "x-frame-options"), "DENY", "{path}");
        assert_eq!(header(&response, "referrer-policy"), "no-referrer", "{path}");
        let policy = header(&response, "content-security-policy");
        assert!(policy.starts_with("default-src 'none';"), "{path}: {policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        assert_eq!(policy.contains("script-src 'self'"), path == "/docs/", "{path}: {policy}");
        assert!(!policy.contains("unsafe-eval") && !policy.contains("script-src 'self' 'unsafe"), "{policy}");
    }
}

#[tokio::test]
async fn the_user_interface_has_no_script_in_its_page() {
    let shop = super::access::with_access().await;
    let page = body(shop.get("/docs/").await, 200).await;
    for script in page.as_str().unwrap().split("<script").skip(1) {
        assert!(script.trim_start().starts_with("src=\"./") || script.contains("src=\"./"), "{script}");
        let (_, inside) = script.split_once('>').unwrap();
        assert!(inside.trim_start().starts_with("</script>"), "the policy would not let this run: {script}");
    }
}

#[tokio::test]
async fn requests_above_the_limit_of_waiting_ones_are_refused_at_once() {
    let shop = TestApi::without_workers(Limits { concurrent_waits: 1, ..generous_limits() }).await;
    shop.stock("TEA-1", 5).await;
    let place = || {
        let request = shop.request(Method::POST, "/api/orders").header("Prefer", "wait=300");
        request.json(&order("TEA-1", 1)).send()
    };
    // No worker runs, so the request that gets the slot holds it for minutes; the other is answered at once.
    let (one, other) = (place(), place());
    let answer = tokio::select! {
        answer = one => answer,
        answer = other => answer,
    };
    let answer = answer.unwrap();
    assert!(answer.headers().get("preference-applied").is_none(), "{:?}", answer.headers());
    assert_eq!(body(answer, 201).await["status"], "pending");
}

async fn preflight(shop: &TestApi, origin: &str) -> Response {
    shop.request(Method::OPTIONS, "/api/orders")
        .header("Origin", origin)
        .header("Access-Control-Request-Method", "POST")
        .header("Access-Control-Request-Headers", "authorization,content-type,idempotency-key")
        .send()
        .await
        .unwrap()
}

#[tokio::test]
async fn only_listed_origins_may_call() {
    let cors_origins = CorsOrigins::parse("https://shop.example,http://localhost:8080").unwrap();
    let shop = TestApi::with_access(Access { cors_origins, ..Access::default() }).await;
    let allowed = preflight(&shop, "https://shop.example").await;
    assert_eq!(allowed.status(), 200);
    assert_eq!(header(&allowed, "access-control-allow-origin"), "https://shop.example");
    assert!(header(&allowed, "access-control-allow-headers").contains("authorization"));
    assert!(allowed.headers().get("access-control-allow-credentials").is_none());
    for other_origin in ["https://evil.example", "https://shop.example.evil.example", "null"] {
        let refused = preflight(&shop, other_origin).await;
        assert!(refused.headers().get("access-control-allow-origin").is_none(), "{other_origin}");
    }
    // A page must be able to read the problem.
    let call = shop.request(Method::GET, "/api/orders").header("Origin", "https://shop.example");
    let call = call.send().await.unwrap();
    assert_eq!(header(&call, "access-control-allow-origin"), "https://shop.example");
    let exposed = header(&call, "access-control-expose-headers");
    for name in ["x-request-id", "accept-encoding"] {
        assert!(exposed.contains(name), "{exposed}");
    }
    problem(call, 401, "unauthenticated").await;
}

#[tokio::test]
async fn by_default_no_other_origin_may_call_and_any_origin_never_with_credentials() {
    let closed = super::access::with_access().await;
    let refused = preflight(&closed, "https://shop.example").await;
    assert!(refused.headers().get("access-control-allow-origin").is_none());
    problem(refused, 405, "method-not-allowed").await;
    let open = TestApi::with_access(Access { cors_origins: CorsOrigins::Any, ..Access::default() }).await;
    let allowed = preflight(&open, "https://anywhere.example").await;
    assert_eq!(header(&allowed, "access-control-allow-origin"), "*");
    assert!(allowed.headers().get("access-control-allow-credentials").is_none());
}

#[tokio::test]
async fn without_configured_rates_no_call_is_limited() {
    let shop = super::access::with_access().await;
    let (_, token) = key(&shop, "ann", KeyRole::Write).await;
    let created = with(&shop, &token, Method::POST, "/api/products").json(&json!(product("TEA-1", 1)));
    let created = created.send().await.unwrap();
    assert!(created.headers().get("ratelimit").is_none());
    body(created, 201).await;
}

#[tokio::test]
async fn lists_that_may_scan_use_few_connections_and_have_a_time_limit() {
    let shop = TestApi::without_workers(Limits { concurrent_scans: 1, ..generous_limits() }).await;
    shop.stock("TEA-1", 5).await;
    // Makes a query on orders endless.
    let owner = shop.owner_pool().await;
    let mut lock = owner.begin().await.unwrap();
    sqlx::query("lock table shop.orders in access exclusive mode").execute(&mut *lock).await.unwrap();
    let first = tokio::spawn(shop.request(Method::GET, "/api/orders/status/pending").send());
    let waits = "select exists (select from pg_stat_activity where datname = current_database()
                 and wait_event_type = 'Lock')";
    while !sqlx::query_scalar::<_, bool>(waits).fetch_one(shop.engine.pool()).await.unwrap() {}
    for path in [
        "/api/orders?status=pending",
        "/api/customers/0199f39f-0000-7000-8000-000000000001/orders?created_before=2020-01-01T00:00:00Z",
        "/api/products?search=x",
        "/api/products/low-stock",
        "/api/notifications/status/sent",
        "/api/workflows?status=completed",
        "/api/workflows?definition=place-order&status=dead",
        "/api/dead-jobs?error_contains=x",
        "/api/dead-jobs/archive?died_after=2020-01-01T00:00:00Z",
        "/api/dead-jobs/summary",
        "/api/audit?actor=ann",
        "/api/audit?action=order.place",
        "/api/audit?action=workflow.cancel",
    ] {
        problem(shop.get(path).await, 503, "overloaded").await;
    }
    let many = json!({"filter": {}, "reason": "x"});
    for path in ["/api/dead-jobs/retry", "/api/dead-jobs/discard"] {
        problem(shop.post(path, &many).await, 503, "overloaded").await;
    }
    for path in [
        "/api/products",
        "/api/workflows",
        "/api/workflows?definition=place-order&created_after=2020-01-01T00:00:00Z",
        "/api/workflows?status=dead",
        "/api/notifications/status/failed",
        "/api/dead-jobs?definition=place-order",
        "/api/audit?action=stock.set",
    ] {
        body(shop.get(path).await, 200).await;
    }
    let given_up = problem(first.await.unwrap().unwrap(), 503, "timeout").await;
    assert!(given_up["detail"].as_str().unwrap().contains("narrow the filter"), "{given_up}");
    lock.rollback().await.unwrap();
    body(shop.get("/api/orders/status/pending").await, 200).await;
    body(shop.get("/api/products?search=x").await, 200).await;
}
