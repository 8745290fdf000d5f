//! Processes that run under a role of their own, which owns nothing.

use devkit::postgres::Cluster;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, error::DatabaseError};

use super::test_cluster::{TestCluster, stops_cleanly};
use crate::support::{Process, TempState};

/// What a process is not to do, whoever has taken it over.
const FORBIDDEN: [&str; 11] = [
    "create table engine.more ()",
    "create table shop.more ()",
    "alter table engine.saga add more text",
    "drop table shop.orders cascade",
    "update engine.audit set actor = 'nobody'",
    "delete from shop.audit",
    "truncate engine.audit",
    "truncate shop.stock_movement",
    "delete from shop.stock_movement",
    "update engine.audit_retention set keep = null",
    "update engine.admission set oldest_migration = 0",
];

async fn sqlstate(conn: &mut PgConnection, sql: &'static str) -> String {
    let error = conn.execute(AssertSqlSafe(sql)).await.expect_err(sql);
    error.as_database_error().and_then(DatabaseError::code).unwrap_or_default().into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_work_under_a_role_that_can_change_neither_schemas_nor_records() {
    let state = TempState::new();
    let cluster = Cluster::start(state.options()).await.unwrap();
    cluster.create_database_if_missing("shop").await.unwrap();
    let owner = cluster.url("shop");
    let mut admin = PgConnection::connect(&owner).await.unwrap();
    admin.execute("create role \"Shop's\" login").await.unwrap();
    let env = [("DATABASE_URL", owner.as_str())];
    let mut migrate = Process::sagaline(&["migrate", "--grant-to", "Shop's"], &env);
    assert_eq!(migrate.wait().await.code(), Some(0), "{}", migrate.output());
    let mut refused = Process::sagaline(&["migrate", "--grant-to", "sagaline"], &env);
    assert_eq!(refused.wait().await.code(), Some(2), "{}", refused.output());
    assert!(refused.output().contains("sagaline owns the tables"), "{}", refused.output());

    let url = owner.replace("user=sagaline", "user=Shop%27s");
    let test = TestCluster::on(url.clone()).await;
    let (served, worker) = (test.serve().await, test.work().await);
    served.client.add_product("TEA-1", 100).await;
    let order_id = served.client.place("ann@example.com", "TEA-1", 1).await;
    served.client.cancel(&format!("/api/orders/{order_id}")).await;
    test.wait_until_no_saga_is_active().await;
    assert_eq!(test.order(order_id).await.0, "cancelled");
    test.assert_all_well().await;

    let mut process = PgConnection::connect(&url).await.unwrap();
    for sql in FORBIDDEN {
        // insufficient_privilege
        assert_eq!(sqlstate(&mut process, sql).await, "42501", "{sql}");
    }
    for sql in ["truncate shop.stock_movement", "truncate shop.audit", "truncate engine.audit"] {
        assert_eq!(sqlstate(&mut admin, sql).await, "P0001", "the owner's {sql} is refused by a trigger");
    }
    process.close().await.unwrap();
    admin.close().await.unwrap();
    stops_cleanly(worker).await;
    stops_cleanly(served.process).await;
    test.pool.close().await;
    cluster.stop().await.unwrap();
}
