//! How long vacuum has been held back.

use shop::snapshots;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool, postgres::PgPoolOptions};
use uuid::Uuid;

use crate::support::{Database, WAIT_TIMEOUT};

async fn one_connection(url: &str) -> PgPool {
    let options = PgPoolOptions::new().max_connections(1).acquire_timeout(WAIT_TIMEOUT);
    options.connect(url).await.unwrap()
}

async fn seconds(pool: &PgPool) -> Option<f64> {
    snapshots::oldest(pool).await.unwrap().seconds
}

/// How long this transaction has been open.
async fn age(pool: &PgPool, pid: i32) -> f64 {
    sqlx::query_scalar(
        "select extract(epoch from now() - xact_start)::float8 from pg_stat_activity where pid = $1",
    )
    .bind(pid)
    .fetch_one(pool)
    .await
    .unwrap()
}

async fn pid(conn: &mut PgConnection) -> i32 {
    sqlx::query_scalar("select pg_backend_pid()").fetch_one(conn).await.unwrap()
}

#[tokio::test]
async fn the_oldest_transaction_that_holds_back_vacuum_is_found_with_its_age() {
    let database = Database::fresh().await;
    let pool = one_connection(&database.url()).await;
    assert_eq!(seconds(&pool).await, Some(0.0), "no transaction is open");
    // An open transaction that has read with a snapshot of its own, or has written, holds vacuum back.
    for statement in [
        "begin isolation level repeatable read; select from shop.outbox",
        "begin; insert into shop.outbox (routing_key, key, payload) values ('order.created', 'k', '{}')",
    ] {
        let mut conn = PgConnection::connect(&database.url()).await.unwrap();
        conn.execute(statement).await.unwrap();
        let pid = pid(&mut conn).await;
        let least = age(&pool, pid).await;
        let found = seconds(&pool).await.unwrap();
        assert!(least > 0.0 && (least..=age(&pool, pid).await).contains(&found), "{found} and {least}");
        conn.execute("rollback; begin; select from shop.outbox").await.unwrap();
        assert_eq!(
            seconds(&pool).await,
            Some(0.0),
            "an idle transaction without a snapshot holds nothing back"
        );
        conn.close().await.unwrap();
    }
}

#[tokio::test]
async fn an_age_that_the_role_may_not_see_is_unknown_and_not_zero() {
    let database = Database::fresh().await;
    let pool = one_connection(&database.owner_url()).await;
    let mut conn = PgConnection::connect(&database.owner_url()).await.unwrap();
    conn.execute("begin isolation level repeatable read; select from shop.outbox").await.unwrap();
    let role = format!("role_{}", Uuid::now_v7().simple());
    let run = async |sql: String| sqlx::raw_sql(AssertSqlSafe(sql)).execute(&pool).await.unwrap();
    run(format!("create role {role}; set role {role}")).await;
    let hidden = seconds(&pool).await;
    conn.execute("rollback").await.unwrap();
    let after = seconds(&pool).await;
    conn.execute("begin isolation level repeatable read; select from shop.outbox").await.unwrap();
    run(format!("reset role; grant pg_read_all_stats to {role}; set role {role}")).await;
    let seen = seconds(&pool).await;
    run(format!("reset role; drop role {role}")).await;
    assert_eq!(hidden, None);
    assert_eq!(after, Some(0.0), "no transaction is left");
    assert!(seen.is_some_and(|seconds| seconds > 0.0), "{seen:?}");
}
