//! Every saga is listed in a batch of starts, whoever started it, and no batch outlives its sagas.

use std::collections::BTreeSet;

use engine::{Engine, Page, SagaFilter, Status};
use sqlx::{Connection, PgConnection, PgPool};
use uuid::Uuid;

use super::fixtures::{self, PLAIN, TestInput};

use crate::support::{Database, WAIT_TIMEOUT, as_owner};

/// The version of the migration that makes batches.
const BATCHES: i64 = 36;

fn engine(pool: &PgPool) -> Engine {
    Engine::builder(pool.clone()).register(fixtures::plain_saga()).build().unwrap()
}

/// Starts so many sagas at once.
async fn start(engine: &Engine, count: usize) -> BTreeSet<Uuid> {
    let starts = (0..count).map(|_| engine.start(PLAIN.with(&TestInput::default())));
    let started = futures::future::join_all(starts).await;
    started.into_iter().map(|started| started.unwrap().saga_id.0).collect()
}

/// The ids of the list, read in small pages.
async fn listed(engine: &Engine, filter: &SagaFilter) -> Vec<Uuid> {
    let (mut after, mut ids) = (None, Vec::new());
    loop {
        let page = engine.sagas(filter, Page { after, limit: 7 }).await.unwrap();
        ids.extend(page.items.iter().map(|saga| saga.saga_id.0));
        after = ids.last().copied();
        if !page.has_more {
            return ids;
        }
    }
}

async fn batches(pool: &PgPool) -> i64 {
    sqlx::query_scalar("select count(*) from engine.start_batch").fetch_one(pool).await.unwrap()
}

/// A statement that inserts a saga as a process of an older version does, or a hand at `psql`.
fn insert(id: Uuid) -> String {
    format!(
        "insert into engine.saga (id, definition, graph_hash, queue, status, step, direction, input, ended_at) \
         values ('{id}', 'plain-saga', 'g1:0', 'default', 'completed', 'pack', 'action', '{{}}', now())"
    )
}

async fn execute(pool: &PgPool, sql: impl Into<String>) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql.into())).execute(pool).await.unwrap();
}

#[tokio::test]
async fn lists_of_a_definition_have_every_saga_once_whoever_started_it() {
    let (_database, pool) = fixtures::database().await;
    let engine = engine(&pool);
    let mut expected = start(&engine, 30).await;
    assert!(batches(&pool).await < 30, "sagas that are started together share a batch");
    let by_hand = Uuid::now_v7();
    execute(&pool, insert(by_hand)).await;
    expected.insert(by_hand);
    expected.extend(start(&engine, 3).await);
    let of_definition = SagaFilter { definition: Some("plain-saga".into()), ..SagaFilter::default() };
    let of_time = SagaFilter { created_after: Some(chrono::DateTime::UNIX_EPOCH), ..SagaFilter::default() };
    for filter in [of_definition.clone(), of_time] {
        let ids = listed(&engine, &filter).await;
        assert_eq!(ids.len(), expected.len(), "{filter:?}");
        assert_eq!(ids.into_iter().collect::<BTreeSet<_>>(), expected, "{filter:?}");
    }
    // With a status, whether an index leads to it or not.
    for (status, count) in [(Status::Running, 33), (Status::Completed, 1), (Status::Compensated, 0)] {
        let filter = SagaFilter { status: Some(status), ..of_definition.clone() };
        assert_eq!(listed(&engine, &filter).await.len(), count, "{status}");
    }
    engine.shutdown().await;
}

#[tokio::test]
async fn an_id_that_is_used_again_is_listed_once() {
    let (_database, pool) = fixtures::database().await;
    let engine = engine(&pool);
    let first = start(&engine, 2).await.into_iter().next().unwrap();
    execute(&pool, format!("delete from engine.saga where id = '{first}'; {}", insert(first))).await;
    let filter = SagaFilter { definition: Some("plain-saga".into()), ..SagaFilter::default() };
    let ids = listed(&engine, &filter).await;
    assert_eq!((ids.len(), ids[0]), (2, first));
    engine.shutdown().await;
}

#[tokio::test]
async fn a_start_that_starts_nothing_leaves_no_batch() {
    let (_database, pool) = fixtures::database().await;
    let engine = engine(&pool);
    let start = || engine.start(PLAIN.with(&TestInput::default()).business_key("order-7"));
    assert!(!start().await.unwrap().existing);
    for _ in 0..3 {
        assert!(start().await.unwrap().existing);
    }
    assert_eq!(batches(&pool).await, 1);
    engine.shutdown().await;
}

#[tokio::test]
async fn a_batch_is_deleted_with_the_last_of_its_sagas() {
    let (_database, pool) = fixtures::database().await;
    let ids: Vec<_> = (0..4).map(|_| Uuid::now_v7()).collect();
    // One transaction: they have one time of their start, and so they are in batches of one time.
    execute(&pool, ids.iter().copied().map(insert).collect::<Vec<_>>().join(";")).await;
    let array = format!("array['{}', '{}', '{}', '{}']::uuid[]", ids[0], ids[1], ids[2], ids[3]);
    let as_one = format!(
        "delete from engine.start_batch where saga_ids <> array['{}'::uuid]; \
         update engine.start_batch set saga_ids = {array}",
        ids[0]
    );
    as_owner(&pool, &as_one).await.unwrap();
    assert_eq!(batches(&pool).await, 1);
    execute(&pool, format!("delete from engine.saga where id = '{}'", ids[0])).await;
    assert_eq!(batches(&pool).await, 1);

    // Two transactions delete all others: neither sees what the other deletes until that has committed.
    let options = pool.connect_options();
    let mut first = PgConnection::connect_with(&options).await.unwrap();
    let mut first = first.begin().await.unwrap();
    sqlx::query("delete from engine.saga where id = any($1)")
        .bind(&ids[1..3])
        .execute(&mut *first)
        .await
        .unwrap();
    let (second_pool, last) = (pool.clone(), ids[3]);
    let second = tokio::spawn(async move {
        execute(&second_pool, format!("delete from engine.saga where id = '{last}'")).await;
    });
    let waits = "select exists (select from pg_locks where not granted)";
    fixtures::holds(&pool, waits).await;
    first.commit().await.unwrap();
    tokio::time::timeout(WAIT_TIMEOUT, second).await.unwrap().unwrap();
    assert_eq!(batches(&pool).await, 0);
    pool.close().await;
}

#[tokio::test]
async fn an_upgrade_lists_the_sagas_that_were_there() {
    let database = Database::fresh().await;
    let pool = database.owner_pool().await;
    let apply = async |is_wanted: &dyn Fn(i64) -> bool| fixtures::apply_migrations(&pool, is_wanted).await;
    execute(&pool, "drop schema engine cascade; create schema engine").await;
    apply(&|version| version < BATCHES).await;
    let mut expected = BTreeSet::new();
    for _ in 0..3 {
        // Two of one time.
        let ids = [Uuid::now_v7(), Uuid::now_v7()];
        execute(&pool, ids.map(insert).join(";")).await;
        expected.extend(ids);
    }
    apply(&|version| version == BATCHES).await;
    // Processes of the version before go on meanwhile.
    let meanwhile = Uuid::now_v7();
    execute(&pool, insert(meanwhile)).await;
    expected.insert(meanwhile);
    apply(&|version| version > BATCHES).await;
    assert_eq!(batches(&pool).await, 4);
    let engine = engine(&pool);
    let filter = SagaFilter { definition: Some("plain-saga".into()), ..SagaFilter::default() };
    let ids = listed(&engine, &filter).await;
    assert_eq!(ids.len(), expected.len());
    assert_eq!(ids.into_iter().collect::<BTreeSet<_>>(), expected);
    engine.shutdown().await;
    pool.close().await;
}
