//! Pages of lists whose items are large: they end early, and the next one goes on.

use serde_json::{Value, json};
use sqlx::PgPool;

use super::fixtures::{TestApi, body, generous_limits};

/// Four rows of this size are more than a page.
const LARGE: usize = 300_000;
/// No page is larger: a mebibyte, the row that goes beyond it, and the names of the fields.
const MOST: usize = engine::PAGE_BYTES + LARGE + 64 * 1024;

async fn insert(pool: &PgPool, statement: &'static str) {
    sqlx::query(statement).bind("x".repeat(LARGE)).execute(pool).await.unwrap();
}

/// Reads all pages, each of which has to be bounded, and returns their items and how many pages there were.
async fn all(shop: &TestApi, path: &str) -> (Vec<Value>, usize) {
    let (mut items, mut pages, mut cursor) = (Vec::new(), 0, String::new());
    loop {
        let text = shop.get(&format!("{path}?limit=200{cursor}")).await.text().await.unwrap();
        assert!(text.len() <= MOST, "a page of {path} has {} bytes", text.len());
        let page: Value = serde_json::from_str(&text).unwrap();
        let read = page["items"].as_array().unwrap_or_else(|| panic!("{path}: {text:.300}"));
        assert!(!read.is_empty(), "every page has an item");
        items.extend(read.iter().cloned());
        pages += 1;
        let Some(next) = page["next_cursor"].as_str() else { return (items, pages) };
        cursor = format!("&cursor={next}");
    }
}

/// Starts a saga whose input is large, and takes away the history of its start.
async fn start_mail(shop: &TestApi) -> Value {
    let input = json!({"to": "ann@example.com", "subject": "Hello", "text": "x".repeat(60_000)});
    let start = json!({"definition": "deliver-notification", "input": input});
    let started = body(shop.post("/api/workflows", &start).await, 202).await;
    sqlx::query("delete from engine.history_run").execute(shop.engine.pool()).await.unwrap();
    started
}

#[tokio::test]
async fn a_history_with_large_outputs_is_read_in_pages_that_end_early() {
    let shop = TestApi::without_workers(generous_limits()).await;
    let id = start_mail(&shop).await["workflow_id"].as_str().unwrap().to_owned();
    insert(
        shop.engine.pool(),
        "insert into engine.history_run (saga_id, seq, step, direction, outcome, attempt, started_at, duration_ms, output, epoch)
         select saga.id, n, 'pack', 'action', 'done', 1, now(), 1, to_jsonb($1::text), 1
         from engine.saga, generate_series(1, 10) n",
    )
    .await;
    let (items, pages) = all(&shop, &format!("/api/workflows/{id}/history")).await;
    let numbers: Vec<_> = items.iter().map(|item| item["seq"].as_i64().unwrap()).collect();
    assert_eq!((numbers, pages), ((1..=10).collect(), 3));
    assert!(items.iter().all(|item| item["output"].as_str().unwrap().len() == LARGE));
}

#[tokio::test]
async fn an_item_that_is_larger_than_a_page_is_a_page_alone() {
    let shop = TestApi::without_workers(generous_limits()).await;
    start_mail(&shop).await;
    insert(
        shop.engine.pool(),
        "insert into engine.history_run (saga_id, seq, step, direction, outcome, attempt, started_at, duration_ms, output, epoch)
         select saga.id, n, 'pack', 'action', 'done', 1, now(), 1, to_jsonb(repeat($1, 5)), 1
         from engine.saga, generate_series(1, 3) n",
    )
    .await;
    let saga =
        shop.engine.sagas(&engine::SagaFilter::default(), engine::Page { after: None, limit: 1 }).await;
    let saga_id = saga.unwrap().items[0].saga_id;
    for (after, has_more) in [(0, true), (1, true), (2, false)] {
        let page = shop.engine.history_after(saga_id, after, 200).await.unwrap().unwrap();
        let numbers: Vec<_> = page.items.iter().map(|entry| entry.seq).collect();
        assert_eq!((numbers, page.has_more), (vec![after + 1], has_more));
    }
}

#[tokio::test]
async fn dead_jobs_with_many_errors_are_read_in_pages_that_end_early() {
    let shop = TestApi::without_workers(generous_limits()).await;
    for statement in [
        "insert into engine.dead_job (id, saga_id, definition, queue, step, direction, attempts, error, errors, payload,
             first_failed_at)
         select gen_random_uuid(), gen_random_uuid(), 'd', 'default', 's', 'action', 1, 'e', jsonb_build_array(
             jsonb_build_object('attempt', 1, 'at', now(), 'outcome', 'retry', 'error', jsonb_build_array($1::text))), '{}',
             now()
         from generate_series(1, 10)",
        "insert into engine.dead_job_archive (id, saga_id, definition, queue, step, direction, attempts, error, errors,
             payload, first_failed_at, died_at, why)
         select gen_random_uuid(), gen_random_uuid(), 'd', 'default', 's', 'action', 1, 'e', jsonb_build_array(
             jsonb_build_object('attempt', 1, 'at', now(), 'outcome', 'retry', 'error', jsonb_build_array($1::text))), '{}',
             now(), now(), 'expired'
         from generate_series(1, 10)",
    ] {
        insert(shop.engine.pool(), statement).await;
    }
    for path in ["/api/dead-jobs", "/api/dead-jobs/archive"] {
        let (items, pages) = all(&shop, path).await;
        assert_eq!((items.len(), pages), (10, 3), "{path}");
        assert!(items.iter().all(|job| job.get("payload").is_none()), "{path}");
        let id = items[0]["dead_job_id"].as_str().unwrap();
        assert_eq!(body(shop.get(&format!("{path}/{id}")).await, 200).await["payload"], json!({}));
    }
}

#[tokio::test]
async fn the_two_sources_of_the_audit_are_merged_though_their_pages_end_early() {
    let shop = TestApi::without_workers(generous_limits()).await;
    // One record of the engine, which is small, between two of the shop.
    for statement in [
        "insert into shop.audit (at, actor, action, subject_kind, subject_id, after)
         select '2026-11-01'::timestamptz + n * interval '2 s', 'ann', 'stock.set', 'product', n::text, to_json($1::text)
         from generate_series(1, 10) n",
        "insert into engine.audit (at, actor, action, saga_id, reason)
         select '2026-11-01'::timestamptz + n * interval '2 s' + interval '1 s', 'ann', 'cancel', gen_random_uuid(), left($1, 9)
         from generate_series(1, 10) n",
    ] {
        insert(shop.engine.pool(), statement).await;
    }
    let (items, pages) = all(&shop, "/api/audit").await;
    let times: Vec<_> = items.iter().map(|item| item["at"].as_str().unwrap()).collect();
    assert_eq!((times.len(), pages), (20, 3));
    assert!(times.is_sorted_by(|newer, older| newer > older), "{times:?}");
}

#[tokio::test]
async fn lists_of_workflows_have_no_inputs_and_one_workflow_has_it() {
    let shop = TestApi::without_workers(generous_limits()).await;
    for _ in 0..20 {
        let started = start_mail(&shop).await;
        assert_eq!(started["input"]["text"].as_str().unwrap().len(), 60_000);
    }
    let (items, pages) = all(&shop, "/api/workflows").await;
    assert_eq!((items.len(), pages), (20, 1));
    assert!(serde_json::to_string(&items).unwrap().len() < 20_000);
    assert!(items.iter().all(|workflow| workflow.get("input").is_none()));
    let one = shop.get(&format!("/api/workflows/{}", items[0]["workflow_id"].as_str().unwrap())).await;
    assert_eq!(body(one, 200).await["input"]["to"], "ann@example.com");
}
