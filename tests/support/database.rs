//! A database per test.

use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use super::server::Server;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A migrated, empty database that nobody else uses; dropped at the end.
pub(crate) struct Database {
    server: &'static Server,
    name: String,
}

impl Database {
    /// Clones the template, in some 50 ms.
    pub(crate) async fn fresh() -> Self {
        Self::create(false).await
    }

    /// As [`Database::fresh`], but a commit is on its way to the disk before it is answered, as in
    /// production: for tests that kill processes. (`fsync` is the server's setting and stays off: it
    /// matters when a machine dies, not when a process does.)
    pub(crate) async fn durable() -> Self {
        Self::create(true).await
    }

    pub(crate) fn url(&self) -> String {
        self.server.url(&self.name)
    }

    /// Opens a small pool; the server has 200 connections for all tests that run at once.
    pub(crate) async fn pool(&self) -> PgPool {
        let pool = PgPoolOptions::new().max_connections(10).connect(&self.url()).await;
        pool.expect("the test's database takes connections")
    }

    async fn create(synchronous_commit: bool) -> Self {
        let server = Server::shared().await;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = server.create(number, synchronous_commit).await.expect("the template is cloned");
        Self { server, name }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.server.drop(&self.name);
    }
}
