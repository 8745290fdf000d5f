//! A database for each test.

use devkit::{
    postgres::Durability,
    test_databases::{TestDatabase, TestDatabases},
};
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::sync::OnceCell;

use super::WAIT_TIMEOUT;

static SHARED: OnceCell<TestDatabases> = OnceCell::const_new();

/// A migrated, empty database that no other test uses, and that is dropped at the end.
pub(crate) struct Database(TestDatabase);

impl Database {
    /// A database whose commits may not survive a killed server; enough for most tests.
    pub(crate) async fn fresh() -> Self {
        Self::create(Durability::Throwaway).await
    }

    /// As [`Database::fresh`], but commits reach the disk before they are acknowledged, for tests that kill processes.
    pub(crate) async fn durable() -> Self {
        Self::create(Durability::Durable).await
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

    async fn create(durability: Durability) -> Self {
        let databases = SHARED.get_or_init(start).await;
        Self(databases.create(durability).await.expect("the template is cloned"))
    }
}

async fn start() -> TestDatabases {
    TestDatabases::start(async |url| sagaline::migrate(url).await)
        .await
        .expect("the tests' PostgreSQL starts")
}
