//! A database with the engine's schema for each test.

use std::time::Duration;

use devkit::{
    postgres::Durability,
    test_databases::{TestDatabase, TestDatabases},
};
use sqlx::{PgPool, postgres::PgPoolOptions};
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

    /// Opens a small pool; all tests that run at once share the server's 200 connections.
    pub(crate) async fn pool(&self) -> PgPool {
        let pool = PgPoolOptions::new().max_connections(10).acquire_timeout(WAIT_TIMEOUT);
        let pool = pool.connect(&self.url()).await;
        pool.expect("the test's database takes connections")
    }
}

async fn start() -> TestDatabases {
    let migrated = TestDatabases::start(async |url| {
        let pool = PgPool::connect(url).await?;
        engine::migrate(&pool).await?;
        pool.close().await;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    });
    migrated.await.expect("the tests' PostgreSQL starts")
}
