//! Access control: keys, roles, and the audit records of changes.

use std::time::Duration;

use api::{Access, Auth, Limits};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use shop::{
    commands,
    keys::{self, KeyRole, NewKey},
};

use super::fixtures::{TestApi, body, generous_limits, order, problem, product};

use crate::support::{WAIT_TIMEOUT, as_owner};

/// A shop whose API requires keys.
pub(crate) async fn with_access() -> TestApi {
    TestApi::with_access(Access::default()).await
}

/// Creates a key and returns its id and its token.
pub(crate) async fn key(shop: &TestApi, name: &str, role: KeyRole) -> (String, String) {
    let new = NewKey { name: name.into(), role, life: None };
    let (key, token) = commands::create_key(shop.engine.pool(), &new, None, &"test".into()).await.unwrap();
    (key.key_id, token.expose())
}

/// A request with a key.
pub(crate) fn with(shop: &TestApi, token: &str, method: Method, path: &str) -> RequestBuilder {
    shop.request(method, path).bearer_auth(token)
}

async fn get(shop: &TestApi, token: &str, path: &str) -> Response {
    with(shop, token, Method::GET, path).send().await.unwrap()
}

/// Every operation of the OpenAPI document, with ids in its path, and the role that the document states.
fn operations() -> Vec<(Method, String, String)> {
    let document: Value = serde_json::from_str(&api::openapi_json()).unwrap();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let concrete: Vec<_> = path
                .split('/')
                .map(|part| if part.starts_with('{') { "0199f39f-0000-7000-8000-00000000000a" } else { part })
                .collect();
            let role = operation["x-required-role"].as_str().unwrap().to_owned();
            operations.push((method.to_ascii_uppercase().parse().unwrap(), concrete.join("/"), role));
        }
    }
    operations
}

#[tokio::test]
async fn every_operation_refuses_callers_without_a_key_or_with_too_low_a_role() {
    let shop = with_access().await;
    let mut tokens = Vec::new();
    for &role in KeyRole::ALL {
        tokens.push((role, key(&shop, role.name(), role).await.1));
    }
    let operations = operations();
    assert!(operations.len() > 25, "{operations:?}");
    for (method, path, needed) in operations {
        let name = format!("{method} {path}");
        let response = shop.request(method.clone(), &path).send().await.unwrap();
        if needed == "public" {
            assert_eq!(response.status(), 200, "{name}");
            continue;
        }
        let scheme = response.headers().get("www-authenticate").map(|value| value.to_str().unwrap());
        assert_eq!(scheme, Some("Bearer realm=\"sagaline\""), "{name}");
        problem(response, 401, "unauthenticated").await;

        let needed: KeyRole = needed.parse().unwrap();
        for (role, token) in &tokens {
            let response = with(&shop, token, method.clone(), &path).send().await.unwrap();
            if role.includes(needed) {
                assert!(![401, 403].contains(&response.status().as_u16()), "{name} as {role}");
            } else {
                let refused = problem(response, 403, "forbidden").await;
                let detail = refused["detail"].as_str().unwrap();
                assert!(detail.contains(&format!("the role `{needed}`")), "{name}: {detail}");
            }
        }
    }
}

#[tokio::test]
async fn a_path_without_a_declared_route_is_not_served() {
    let shop = with_access().await;
    let (_, token) = key(&shop, "ann", KeyRole::Operate).await;
    let refused = with(&shop, &token, Method::DELETE, "/api/orders").send().await.unwrap();
    assert_eq!(refused.headers()["allow"], "GET,HEAD,POST");
    problem(refused, 405, "method-not-allowed").await;
    problem(get(&shop, &token, "/api/nothing").await, 404, "no-such-route").await;
    // The OpenAPI document is public, so that callers can read it before they have a key.
    body(shop.get("/openapi.json").await, 200).await;
    body(shop.get("/docs/").await, 200).await;
    let head = shop.request(Method::HEAD, "/api/orders").send().await.unwrap();
    assert_eq!(head.status(), 401);
}

#[tokio::test]
async fn only_a_complete_key_in_the_right_header_is_accepted() {
    let shop = with_access().await;
    let (id, token) = key(&shop, "ann", KeyRole::Read).await;
    let other = key(&shop, "bob", KeyRole::Read).await.1;
    body(get(&shop, &token, "/api/orders").await, 200).await;
    let others_secret = other.rsplit('_').next().unwrap();
    for wrong in [
        format!("Bearer sgl_{id}_{others_secret}"),
        format!("Bearer {}", &token[..token.len() - 1]),
        format!("Bearer {token}0"),
        format!("Bearer sgl_{}_{others_secret}", "0".repeat(16)),
        format!("Basic {token}"),
        token.clone(),
        "Bearer".into(),
        "Bearer sgl__".into(),
    ] {
        let response = shop.request(Method::GET, "/api/orders").header("Authorization", &wrong);
        let refused = problem(response.send().await.unwrap(), 401, "unauthenticated").await;
        assert!(!refused.to_string().contains(others_secret), "{refused}");
    }
    let twice = shop.request(Method::GET, "/api/orders").bearer_auth(&token).bearer_auth(&token);
    problem(twice.send().await.unwrap(), 401, "unauthenticated").await;
    problem(shop.get(&format!("/api/orders?access_token={token}")).await, 401, "unauthenticated").await;
    let lower = shop.request(Method::GET, "/api/orders").header("Authorization", format!("bearer {token}"));
    body(lower.send().await.unwrap(), 200).await;
}

#[tokio::test]
async fn a_revoked_or_expired_key_is_no_longer_accepted() {
    let shop = with_access().await;
    let pool = shop.engine.pool();
    let (unseen, unseen_token) = key(&shop, "unseen", KeyRole::Read).await;
    let (seen, seen_token) = key(&shop, "seen", KeyRole::Read).await;
    let (expired, expired_token) = key(&shop, "expired", KeyRole::Read).await;
    sqlx::query("update shop.api_key set created_at = now() - interval '2 h', expires_at = now() - interval '1 h' where key_id = $1")
        .bind(&expired)
        .execute(pool)
        .await
        .unwrap();
    problem(get(&shop, &expired_token, "/api/orders").await, 401, "unauthenticated").await;

    body(get(&shop, &seen_token, "/api/orders").await, 200).await;
    for id in [&unseen, &seen] {
        commands::revoke_key(pool, id, Some("left us"), &"test".into()).await.unwrap();
    }
    problem(get(&shop, &unseen_token, "/api/orders").await, 401, "unauthenticated").await;
    // The key is cached, so it may be accepted for some seconds longer.
    let gone = async {
        while get(&shop, &seen_token, "/api/orders").await.status() != 401 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(WAIT_TIMEOUT, gone).await.expect("a revoked key is forgotten");
}

#[tokio::test]
async fn a_key_is_not_cached_beyond_its_expiry() {
    // A longer cache entry would outlast this test.
    let limits = Limits { key_cache_ttl: 2 * WAIT_TIMEOUT, ..generous_limits() };
    let shop = TestApi::with_access_and_limits(Access::default(), limits).await;
    let mut life = Duration::from_secs(1);
    // On a slow machine the first keys may expire before they are used.
    let token = loop {
        life *= 2;
        let new = NewKey { name: format!("brief-{}", life.as_secs()), role: KeyRole::Read, life: Some(life) };
        let (_, token) = commands::create_key(shop.engine.pool(), &new, None, &"test".into()).await.unwrap();
        let token = token.expose();
        if get(&shop, &token, "/api/orders").await.status() == 200 {
            break token;
        }
        assert!(life < WAIT_TIMEOUT, "no key is let in");
    };
    let gone = async {
        while get(&shop, &token, "/api/orders").await.status() != 401 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(WAIT_TIMEOUT, gone).await.expect("a key ends when its life does");
}

#[tokio::test]
async fn the_last_use_of_a_key_is_recorded_in_the_background() {
    let mut shop = with_access().await;
    let (_, token) = key(&shop, "ann", KeyRole::Read).await;
    key(&shop, "unused", KeyRole::Read).await;
    for _ in 0..3 {
        body(get(&shop, &token, "/api/orders").await, 200).await;
    }
    shop.close().await;
    let keys = keys::list(shop.engine.pool()).await.unwrap();
    let used: Vec<_> = keys.iter().map(|key| (key.name.as_str(), key.last_used_at.is_some())).collect();
    assert!(used.contains(&("ann", true)) && used.contains(&("unused", false)), "{used:?}");
}

#[tokio::test]
async fn metrics_need_a_key_that_may_read_unless_they_are_public() {
    let shop = with_access().await;
    problem(shop.get("/metrics").await, 401, "unauthenticated").await;
    let (_, token) = key(&shop, "prometheus", KeyRole::Read).await;
    body(get(&shop, &token, "/metrics").await, 200).await;
    let open = TestApi::with_access(Access { is_metrics_public: true, ..Access::default() }).await;
    body(open.get("/metrics").await, 200).await;
    problem(open.get("/api/orders").await, 401, "unauthenticated").await;
}

#[tokio::test]
async fn an_unreachable_database_is_not_reported_as_a_wrong_key() {
    // With the product's own time-out for connections: that of the tests is longer than the client's.
    let limits = Limits { pool_timeout: Limits::default().pool_timeout, ..generous_limits() };
    let shop = TestApi::with_access_and_limits(Access::default(), limits).await;
    let (_, token) = key(&shop, "ann", KeyRole::Read).await;
    shop.engine.pool().close().await;
    problem(get(&shop, &token, "/api/orders").await, 503, "unavailable").await;
}

#[tokio::test]
async fn a_worker_serves_health_and_metrics_only() {
    let shop = with_access().await;
    let alone = shop.of_services(&[]).await;
    for path in ["/health", "/metrics"] {
        assert_eq!(reqwest::get(format!("{alone}{path}")).await.unwrap().status(), 200, "{path}");
    }
    for path in ["/api/orders", "/api/workflows", "/api/audit", "/openapi.json", "/docs/"] {
        problem(reqwest::get(format!("{alone}{path}")).await.unwrap(), 404, "no-such-route").await;
    }
}

#[tokio::test]
async fn stored_responses_of_one_key_holder_are_not_returned_to_another() {
    let shop = with_access().await;
    let (_, ann) = key(&shop, "ann", KeyRole::Write).await;
    let (_, bob) = key(&shop, "bob", KeyRole::Write).await;
    let (_, anns_next) = key(&shop, "ann", KeyRole::Write).await;
    let place = |token: &str, sku: &str| {
        let request = with(&shop, token, Method::POST, "/api/products").header("Idempotency-Key", "same");
        request.json(&product(sku, 1)).send()
    };
    let first = body(place(&ann, "TEA-1").await.unwrap(), 201).await;
    let second = body(place(&bob, "TEA-2").await.unwrap(), 201).await;
    assert_ne!(first["product_id"], second["product_id"]);
    // A key that replaces another has the same holder.
    let replayed = place(&anns_next, "TEA-1").await.unwrap();
    assert_eq!(replayed.headers()["idempotent-replayed"], "true");
    assert_eq!(body(replayed, 201).await, first);
}

#[tokio::test]
async fn the_audit_records_actor_change_address_and_reason() {
    let shop = with_access().await;
    let (id, token) = key(&shop, "backoffice", KeyRole::Operate).await;
    let created = with(&shop, &token, Method::POST, "/api/products").json(&product("TEA-1", 5));
    let product_id =
        body(created.send().await.unwrap(), 201).await["product_id"].as_str().unwrap().to_owned();
    let change = with(&shop, &token, Method::PUT, &format!("/api/products/{product_id}/stock"))
        .header("X-Actor", "anna")
        .json(&json!({"set": 3, "reason": "count"}));
    let changed = change.send().await.unwrap();
    let trace_id = changed.headers()["x-request-id"].to_str().unwrap().to_owned();
    body(changed, 200).await;

    let list = |query: String| {
        let request = with(&shop, &token, Method::GET, &format!("/api/audit?{query}"));
        async move { body(request.send().await.unwrap(), 200).await["items"].as_array().unwrap().clone() }
    };
    let entries = list(format!("subject_id={product_id}")).await;
    let actions: Vec<_> = entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["stock.set", "product.create"]);
    let entry = &entries[0];
    assert_eq!(
        *entry,
        json!({
            "audit_id": entry["audit_id"], "at": entry["at"],
            "actor": "key:backoffice/anna", "key_id": id, "address": "127.0.0.1",
            "action": "stock.set", "subject": {"kind": "product", "id": product_id}, "reason": "count",
            "before": {"on_hand": 5, "reserved": 0, "low_stock_threshold": 2},
            "after": {"on_hand": 3, "reserved": 0, "low_stock_threshold": 2},
            "trace_id": trace_id,
        })
    );
    assert_eq!(entries[1]["actor"], "key:backoffice");
    assert_eq!(list("actor=key:backoffice&action=stock.set".into()).await.len(), 1);
    assert_eq!(list("actor=key:backoffice/anna".into()).await.len(), 1);
    assert_eq!(list("actor=key:back".into()).await.len(), 0);
    assert_eq!(list("subject_kind=key".into()).await[0]["action"], "key.create");
    assert_eq!(list("created_before=2000-01-01T00:00:00Z".into()).await.len(), 0);
    assert_eq!(list("created_after=2000-01-01T00:00:00Z".into()).await.len(), 3);

    let ledger: Vec<String> = sqlx::query_scalar("select actor from shop.stock_movement where kind = 'set'")
        .fetch_all(shop.engine.pool())
        .await
        .unwrap();
    assert_eq!(ledger, ["key:backoffice/anna"]);
}

#[tokio::test]
async fn a_refused_change_leaves_no_audit_record_and_records_can_not_be_changed() {
    let shop = with_access().await;
    let (_, token) = key(&shop, "ann", KeyRole::Operate).await;
    let created = with(&shop, &token, Method::POST, "/api/products").json(&product("TEA-1", 5));
    let id = body(created.send().await.unwrap(), 201).await["product_id"].as_str().unwrap().to_owned();
    let change = with(&shop, &token, Method::PUT, &format!("/api/products/{id}/stock"))
        .header("If-Match", "\"v99\"")
        .json(&json!({"set": 3, "reason": "count"}));
    problem(change.send().await.unwrap(), 412, "precondition-failed").await;
    let entries = body(get(&shop, &token, "/api/audit?action=stock.set").await, 200).await;
    assert_eq!(entries["items"], json!([]));
    for change in ["update shop.audit set actor = 'nobody'", "delete from shop.audit"] {
        let error = as_owner(shop.engine.pool(), change).await.unwrap_err();
        assert!(error.to_string().contains("append only"), "{error}");
    }
}

#[tokio::test]
async fn the_audit_lists_changes_of_the_shop_and_of_workflows_together() {
    let access = Access { auth: Auth::Off, ..Access::default() };
    let shop = TestApi::with_access(access).await;
    shop.stock("TEA-1", 50).await;
    for _ in 0..3 {
        // Without workers the placement can still be cancelled. This makes one record of the shop and one of the
        // engine.
        let placed = body(shop.post("/api/orders", &order("TEA-1", 1)).await, 201).await;
        let cancel = format!("/api/orders/{}/cancel", placed["order_id"].as_str().unwrap());
        let request = shop.request(Method::POST, &cancel).header("X-Actor", "olga");
        body(request.json(&json!({"reason": "changed"})).send().await.unwrap(), 202).await;
    }
    let all = body(shop.get("/api/audit?limit=200").await, 200).await;
    let all = all["items"].as_array().unwrap();
    let count = |action: &str| all.iter().filter(|entry| entry["action"] == action).count();
    assert_eq!(
        (count("order.cancel"), count("workflow.cancel"), count("product.create")),
        (3, 3, 1),
        "{all:?}"
    );
    let times: Vec<_> = all.iter().map(|entry| entry["at"].as_str().unwrap()).collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");

    let (mut paged, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = body(shop.get(&format!("/api/audit?limit=2&cursor={cursor}")).await, 200).await;
        paged.extend(page["items"].as_array().unwrap().clone());
        let Some(next) = page["next_cursor"].as_str() else { break };
        next.clone_into(&mut cursor);
    }
    assert_eq!(&paged, all);

    let olgas = body(shop.get("/api/audit?actor=olga&subject_kind=workflow").await, 200).await;
    assert_eq!(olgas["items"].as_array().unwrap().len(), 3);
    let id =
        all.iter().find(|entry| entry["subject"]["kind"] == "workflow").unwrap()["subject"]["id"].clone();
    let one = body(shop.get(&format!("/api/audit?subject_id={}", id.as_str().unwrap())).await, 200).await;
    assert_eq!(one["items"].as_array().unwrap().len(), 1);
    for wrong in ["limit=0", "created_after=yesterday", "colour=red", "cursor=x"] {
        assert_eq!(shop.get(&format!("/api/audit?{wrong}")).await.status(), 400, "{wrong}");
    }
}

#[tokio::test]
async fn without_keys_every_operation_is_allowed() {
    let shop = TestApi::without_workers(generous_limits()).await;
    body(shop.get("/api/audit").await, 200).await;
    let nonsense = shop.request(Method::GET, "/api/orders").header("Authorization", "Bearer nonsense");
    body(nonsense.send().await.unwrap(), 200).await;
}
