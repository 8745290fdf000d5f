//! Audit records are deleted by the function of their owner, when their long time is over, and in no other way.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use uuid::Uuid;

use super::{fixtures, retention::DAY};
use engine::{Engine, Retention};

/// Records that are so many days old.
async fn records(pool: &PgPool, days: &[i32]) {
    sqlx::query(
        "insert into engine.audit (at, actor, action, saga_id, reason) \
         select now() - make_interval(days => d), 'ann', 'cancel', gen_random_uuid(), 'no' from unnest($1::int[]) as d",
    )
    .bind(days)
    .execute(pool)
    .await
    .unwrap();
}

async fn count(pool: &PgPool) -> i64 {
    sqlx::query_scalar("select count(*) from engine.audit").fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn only_audit_records_over_the_stored_time_are_deleted() {
    let (_database, pool) = fixtures::owner_database().await;
    let engine = Engine::builder(pool.clone()).retention(Retention::of(DAY)).build().unwrap();
    records(&pool, &[3700, 3660, 3640, 10, 0]).await;
    assert!(engine.audit_prune_lag().await.unwrap() > 49 * DAY);
    assert_eq!(engine.prune_audit(1).await.unwrap().deleted, 1);
    assert_eq!(engine.prune_audit(10).await.unwrap().deleted, 1);
    assert_eq!((engine.prune_audit(10).await.unwrap().deleted, count(&pool).await), (0, 3));
    assert!(engine.audit_prune_lag().await.unwrap().is_zero());

    // A year is the least.
    assert!(engine::set_audit_retention(&pool, Some(364 * DAY)).await.is_err());
    engine::set_audit_retention(&pool, Some(365 * DAY)).await.unwrap();
    assert_eq!((engine.prune_audit(10).await.unwrap().deleted, count(&pool).await), (1, 2));
    engine::set_audit_retention(&pool, None).await.unwrap();
    records(&pool, &[9000]).await;
    assert_eq!((engine.prune_audit(10).await.unwrap().deleted, count(&pool).await), (0, 3));
    assert_eq!(engine.audit_prune_lag().await.unwrap(), Duration::ZERO);
    engine.shutdown().await;
}

#[tokio::test]
async fn a_direct_change_and_a_time_that_is_too_young_are_refused() {
    let (_database, pool) = fixtures::owner_database().await;
    records(&pool, &[4000, 10]).await;
    let refused = [
        ("delete from engine.audit", "append only"),
        ("update engine.audit set actor = 'nobody'", "append only"),
        ("truncate engine.audit", "append only"),
        ("select engine.prune_audit(now() - interval '3649 days', 10)", "kept for"),
        ("select engine.prune_audit(now(), 10)", "kept for"),
        ("select engine.prune_audit('infinity', 10)", "kept for"),
        ("select engine.prune_audit(null, 10)", "needed"),
        ("select engine.prune_audit(now() - interval '3651 days', null)", "needed"),
        (
            "select engine.prune_audit(now() - interval '3651 days', 10); delete from engine.audit",
            "append only",
        ),
        ("update engine.audit_retention set keep = interval '1 day'", "audit_retention_is_long"),
        ("update engine.audit_retention set keep = null; select engine.prune_audit('epoch', 1)", "for ever"),
    ];
    for (statement, why) in refused {
        let error = sqlx::raw_sql(statement).execute(&pool).await.unwrap_err();
        assert!(error.to_string().contains(why), "`{statement}`: {error}");
    }
    assert_eq!(count(&pool).await, 2);
}

#[tokio::test]
async fn a_role_that_may_do_everything_but_is_not_the_owner_can_neither_shorten_the_time_nor_delete_by_itself()
 {
    let (database, pool) = fixtures::owner_database().await;
    records(&pool, &[4000, 10]).await;
    let role = format!("role_{}", Uuid::now_v7().simple());
    let run =
        async |conn: &mut PgConnection, sql: String| sqlx::raw_sql(AssertSqlSafe(sql)).execute(conn).await;
    let mut conn = PgConnection::connect(&database.owner_url()).await.unwrap();
    run(
        &mut conn,
        format!(
            "create role {role}; grant usage on schema engine to {role}; \
             grant all on all tables in schema engine to {role}; set role {role}"
        ),
    )
    .await
    .unwrap();
    let refused = [
        "update engine.audit_retention set keep = interval '365 days'",
        "delete from engine.audit_retention",
        "delete from engine.audit",
        // What the function does, without its owner.
        "select set_config('engine.pruned_audit', 'engine.audit'::regclass::oid::text, false); delete from engine.audit",
        "select engine.prune_audit(now() - interval '3640 days', 10)",
    ];
    for statement in refused {
        assert!(run(&mut conn, statement.into()).await.is_err(), "`{statement}` is refused");
    }
    run(&mut conn, "select engine.prune_audit(now() - interval '3650 days', 10)".into()).await.unwrap();
    assert_eq!(count(&pool).await, 1);
    run(&mut conn, format!("reset role; drop owned by {role}; drop role {role}")).await.unwrap();
}
