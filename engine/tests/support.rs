//! A database with the engine's schema for each test.

use std::time::Duration;

use devkit::{
    postgres::Durability,
    test_databases::{TestDatabase, TestDatabases},
};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool, postgres::PgPoolOptions};
use tokio::sync::OnceCell;

/// Ends a wait that would otherwise never end. It is far longer than the slowest machine needs, so no result depends on
/// it.
pub(crate) const WAIT_TIMEOUT: Duration = Duration::from_mins(5);

static SHARED: OnceCell<TestDatabases> = OnceCell::const_new();

/// A migrated, empty database that no other test uses, and that is dropped at the end.
pub(crate) struct Database(TestDatabase);

impl Database {
    pub(crate) async fn fresh() -> Self {
        let databases = SHARED.get_or_init(start).await;
        Self(databases.create(Durability::Throwaway).await.expect("the template is cloned"))
    }

    pub(crate) fn url(&self) -> String {
        self.0.url()
    }

    pub(crate) fn owner_url(&self) -> String {
        self.0.owner_url()
    }

    /// Opens a small pool of a role that owns nothing, as an engine should have one. All tests that run at once share the
    /// server's 200 connections.
    pub(crate) async fn pool(&self) -> PgPool {
        open(&self.url()).await
    }

    /// As [`Database::pool`], of the owner of the schema.
    pub(crate) async fn owner_pool(&self) -> PgPool {
        open(&self.owner_url()).await
    }
}

/// Executes what a test arranges and no engine may do, as the owner of the test's database that this pool is for.
///
/// # Errors
/// When the owner is refused, too.
pub(crate) async fn as_owner(pool: &PgPool, sql: &str) -> Result<(), sqlx::Error> {
    let databases = SHARED.get_or_init(start).await;
    let database =
        pool.connect_options().get_database().expect("a test's pool names its database").to_owned();
    let mut owner = PgConnection::connect(&databases.owner_url_of(&database)).await?;
    owner.execute(AssertSqlSafe(sql)).await?;
    owner.close().await
}

async fn open(url: &str) -> PgPool {
    let pool = PgPoolOptions::new().max_connections(10).acquire_timeout(WAIT_TIMEOUT);
    pool.connect(url).await.expect("the test's database takes connections")
}

async fn start() -> TestDatabases {
    let migrated = TestDatabases::start(async |url, role| {
        let pool = PgPool::connect(url).await?;
        engine::migrate(&pool).await?;
        engine::migrations().grant(&pool, role).await?;
        pool.close().await;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    });
    migrated.await.expect("the tests' PostgreSQL starts")
}
