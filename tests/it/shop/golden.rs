//! What older versions stored is migrated by this one, and its sagas are finished. `scripts/golden` makes the files.

use std::path::{Path, PathBuf};

use serde_json::json;
use shop::invariants::{Extent, InvariantResult, SurveyOptions, survey};
use sqlx::PgPool;

use crate::{
    it::api::fixtures::{TestApi, Workers, body, generous_limits},
    support::{Database, WAIT_TIMEOUT},
};

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The newest migrations of the version that wrote a file, of the engine and of the shop.
fn versions(file: &Path) -> (i64, i64) {
    let name = file.file_stem().unwrap().to_str().unwrap();
    let [engine, shop] = ["engine", "shop"].map(|schema| {
        let after = name.split('-').skip_while(|word| *word != schema).nth(1);
        after.unwrap_or_else(|| panic!("{name} does not name its version of {schema}")).parse().unwrap()
    });
    (engine, shop)
}

/// Makes the schemas of the version that wrote a file, fills them with it, and migrates them.
async fn load(database: &Database, file: &Path) {
    let owner = database.owner_pool().await;
    let role: String =
        sqlx::query_scalar("select current_user").fetch_one(&database.pool().await).await.unwrap();
    sqlx::raw_sql("drop schema engine cascade; drop schema shop cascade").execute(&owner).await.unwrap();
    let (engine, shop) = versions(file);
    engine::migrations().up_to(engine).run(&owner).await.unwrap();
    shop::migrations().up_to(shop).run(&owner).await.unwrap();
    // One session, for its settings and its temporary function.
    let mut conn = owner.acquire().await.unwrap();
    let tables: String = sqlx::query_scalar(
        "select string_agg(format('%I.%I', schemaname, tablename), ', ') from pg_tables \
         where schemaname in ('engine', 'shop') and tablename not in ('_sqlx_migrations', 'migration')",
    )
    .fetch_one(&mut *conn)
    .await
    .unwrap();
    let rows = std::fs::read_to_string(file).unwrap();
    let sql = format!("set session_replication_role = replica; truncate {tables}; {rows}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut *conn).await.unwrap();
    conn.close().await.unwrap();
    sagaline::migrate(&database.owner_url(), Some(&role)).await.unwrap();
}

async fn count(pool: &PgPool, what: &'static str) -> i64 {
    sqlx::query_scalar(what).fetch_one(pool).await.unwrap()
}

const UNFINISHED: &str = "select count(*) from engine.saga \
     where status in ('running', 'compensating') or status = 'dead' and ended_at is null";

async fn finish(file: &Path) {
    let name = file.display();
    let database = Database::fresh().await;
    load(&database, file).await;
    let owner = database.owner_pool().await;
    assert!(count(&owner, UNFINISHED).await > 0, "{name} has nothing to finish");
    let orders = count(&owner, "select count(*) from shop.orders").await;
    // The process that held them is gone.
    let lapsed = "update engine.saga set lease_until = now() where lease_until is not null";
    sqlx::query(lapsed).execute(&owner).await.unwrap();

    let pool = database.pool().await;
    let shop = TestApi::over(pool.clone(), None, generous_limits(), Workers::Running, Vec::new()).await;
    let queues: Vec<String> =
        sqlx::query_scalar("select name from engine.queue where paused").fetch_all(&pool).await.unwrap();
    for queue in queues {
        body(shop.put(&format!("/api/queues/{queue}"), &json!({"paused": false})).await, 200).await;
    }
    let retry = json!({"filter": {}, "dry_run": false, "reason": "the mailbox is there now"});
    body(shop.post("/api/dead-jobs/retry", &retry).await, 200).await;
    let finished = async {
        while count(&pool, UNFINISHED).await > 0 {
            engine::testing::end_waits(&pool).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(WAIT_TIMEOUT, finished).await.unwrap_or_else(|_| panic!("{name} is not finished"));

    assert_eq!(count(&pool, "select count(*) from shop.orders").await, orders, "{name}");
    let open = "select count(*) from shop.orders where status in ('pending', 'cancelling')";
    assert_eq!(count(&pool, open).await, 0, "{name}: each order has its end");
    let unsent = "select count(*) from shop.notification where status <> 'sent'";
    assert_eq!(count(&pool, unsent).await, 0, "{name}: each mail is sent");
    let (invariants, covered) =
        survey(&shop.engine, SurveyOptions::new(Extent::Whole), |_| {}).await.unwrap();
    let violated: Vec<&InvariantResult> = invariants.iter().filter(|result| !result.holds()).collect();
    assert!(covered.everything && violated.is_empty(), "{name}: {violated:#?}");
}

#[tokio::test]
async fn every_golden_database_is_migrated_and_its_sagas_are_finished() {
    let files = files();
    assert!(!files.is_empty());
    for file in files {
        finish(&file).await;
    }
}
