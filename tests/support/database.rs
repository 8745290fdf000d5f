//! A database for each test.

use devkit::{
    postgres::Durability,
    test_databases::{TestDatabase, TestDatabases},
};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool, postgres::PgPoolOptions};
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

    /// The URL for processes: their role may do no more than in production.
    pub(crate) fn url(&self) -> String {
        self.0.url()
    }

    /// The URL for what a test arranges and no process may do.
    pub(crate) fn owner_url(&self) -> String {
        self.0.owner_url()
    }

    /// Opens a small pool of the processes' role; all tests that run at once share the server's 200 connections.
    pub(crate) async fn pool(&self) -> PgPool {
        open(&self.url()).await
    }

    /// As [`Database::pool`], of the owner.
    pub(crate) async fn owner_pool(&self) -> PgPool {
        open(&self.owner_url()).await
    }

    async fn create(durability: Durability) -> Self {
        let databases = SHARED.get_or_init(start).await;
        Self(databases.create(durability).await.expect("the template is cloned"))
    }
}

/// Executes what a test arranges and no process may do, as the owner of the test's database that this pool is for.
///
/// # Errors
/// When the owner is refused, too.
pub(crate) async fn as_owner(pool: &PgPool, sql: &str) -> Result<(), sqlx::Error> {
    let databases = SHARED.get_or_init(start).await;
    let database =
        pool.connect_options().get_database().expect("a test's pool names its database").to_owned();
    let mut owner = PgConnection::connect(&databases.owner_url_of(&database)).await?;
    // The test may have made the database read-only.
    owner.execute("set default_transaction_read_only = off").await?;
    owner.execute(AssertSqlSafe(sql)).await?;
    owner.close().await
}

async fn open(url: &str) -> PgPool {
    let pool = PgPoolOptions::new().max_connections(10).acquire_timeout(WAIT_TIMEOUT);
    pool.connect(url).await.expect("the test's database takes connections")
}

async fn start() -> TestDatabases {
    TestDatabases::start(async |url, role| sagaline::migrate(url, Some(role)).await)
        .await
        .expect("the tests' PostgreSQL starts")
}
