//! Processes that run under a role of their own, which owns nothing.

use std::{
    fs,
    path::{Path, PathBuf},
};

use devkit::postgres::{Cluster, PROCESS_ROLE, Search};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, error::DatabaseError};

use super::test_cluster::{TestCluster, stops_cleanly};
use crate::support::{Process, TempState};
use tokio::process::Command;

/// What a process is not to do, whoever has taken it over.
const FORBIDDEN: [&str; 12] = [
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
    "delete from shop.order_by_status",
];

/// Runs the script of the production file that makes its roles, as its image does, in a database of this cluster.
async fn make_roles(cluster: &Cluster, database: &str, secrets: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/postgres/roles.sh");
    let psql = Search::from_env().find(None).unwrap().program("psql");
    let path: Vec<PathBuf> = psql.parent().map(Into::into).into_iter().collect();
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(path.into_iter().chain(std::env::split_paths(&inherited))).unwrap();
    let mut command = Command::new("sh");
    command.arg(script).env_clear().env("PATH", path).env("SECRETS", secrets);
    command.env("PGHOST", cluster.socket_dir()).env("PGPORT", Cluster::PORT.to_string());
    command.env("POSTGRES_USER", "sagaline").env("POSTGRES_DB", database);
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_roles_of_the_production_file_migrate_and_work_and_are_no_superusers() {
    let state = TempState::new();
    let cluster = state.start().await;
    cluster.create_database_if_missing("shop").await.unwrap();
    let secrets = tempfile::tempdir().unwrap();
    let set = |name: &str, password: &str| fs::write(secrets.path().join(name), password).unwrap();
    set("database_owner_password", "owner's \"word\"");
    set("database_password", "a");
    make_roles(&cluster, "shop", secrets.path()).await;
    let mut admin = PgConnection::connect(&cluster.url("shop")).await.unwrap();
    let password = "select rolpassword from pg_authid where rolname = 'shop_process'";
    let first: String = sqlx::query_scalar(password).fetch_one(&mut admin).await.unwrap();
    set("database_password", "b");
    make_roles(&cluster, "shop", secrets.path()).await;
    let second: String = sqlx::query_scalar(password).fetch_one(&mut admin).await.unwrap();
    assert_ne!(first, second, "the script replaces passwords");
    let privileged: i64 = sqlx::query_scalar(
        "select count(*) from pg_roles where rolname in ('shop_owner', 'shop_process')
         and (rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls or not rolcanlogin)",
    )
    .fetch_one(&mut admin)
    .await
    .unwrap();
    assert_eq!(privileged, 0);

    let owner = cluster.url("shop").replace("user=sagaline", "user=shop_owner");
    let env = [("DATABASE_URL", owner.as_str())];
    let mut migrate = Process::sagaline(&["migrate", "--grant-to", PROCESS_ROLE], &env);
    assert_eq!(migrate.wait().await.code(), Some(0), "{}", migrate.output());
    let test = TestCluster::on(cluster.process_url("shop")).await;
    let (served, worker) = (test.serve().await, test.work().await);
    served.client.add_product("TEA-1", 100).await;
    let order_id = served.client.place("ann@example.com", "TEA-1", 1).await;
    test.wait_until_no_saga_is_active().await;
    assert_eq!(test.order(order_id).await.0, "confirmed");
    test.assert_all_well().await;
    for args in [
        &["keys", "create", "--name", "admin", "--role", "operate"][..],
        &["keys", "list"],
        &["events", "consumers"],
    ] {
        let mut console = test.start(args, &[]);
        assert_eq!(console.wait().await.code(), Some(0), "{args:?}: {}", console.output());
    }
    expect_little_power(&test.url).await;
    admin.close().await.unwrap();
    stops_cleanly(worker).await;
    stops_cleanly(served.process).await;
    test.pool.close().await;
    cluster.stop().await.unwrap();
}

/// Tries as the role of a process what such a role may not do.
async fn expect_little_power(url: &str) {
    let mut process = PgConnection::connect(url).await.unwrap();
    for sql in FORBIDDEN {
        // insufficient_privilege
        assert_eq!(sqlstate(&mut process, sql).await, "42501", "{sql}");
    }
    process.close().await.unwrap();
}

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

    expect_little_power(&url).await;
    for sql in ["truncate shop.stock_movement", "truncate shop.audit", "truncate engine.audit"] {
        assert_eq!(sqlstate(&mut admin, sql).await, "P0001", "the owner's {sql} is refused by a trigger");
    }
    admin.close().await.unwrap();
    stops_cleanly(worker).await;
    stops_cleanly(served.process).await;
    test.pool.close().await;
    cluster.stop().await.unwrap();
}
