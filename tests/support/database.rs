//! A database per test.

use devkit::{
    postgres::Durability,
    test_databases::{TestDatabase, TestDatabases},
};
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::sync::OnceCell;

use super::WAIT_TIMEOUT;

static SHARED: OnceCell<TestDatabases> = OnceCell::const_new();

/// A migrated, empty database that no other test uses; dropped at the end.
pub(crate) struct Database(TestDatabase);

impl Database {
    /// A database whose commits survive killed processes only by chance; enough for most tests.
    pub(crate) async fn fresh() -> Self {
        Self::create(Durability::Throwaway).await
    }

    /// As [`Database::fresh`], but commits reach the disk before they are answered, for tests that kill processes.
    pub(crate) async fn durable() -> Self {
        Self::create(Durability::Durable).await
    }

    pub(crate) fn url(&self) -> String {
        self.0.url()
    }

    /// Opens a small pool; the server has 200 connections for all tests that run at once.
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
