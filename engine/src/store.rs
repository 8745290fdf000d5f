//! All of the engine's SQL. One statement a function; the caller owns the transaction.

pub(crate) mod archive;
pub(crate) mod audit;
pub(crate) mod claims;
pub(crate) mod commits;
pub(crate) mod dead_jobs;
pub(crate) mod queries;
pub(crate) mod queues;
pub(crate) mod saga_state;
pub(crate) mod starts;
#[cfg(feature = "testing")]
pub(crate) mod testing;

use sqlx::{
    PgPool,
    migrate::{MigrateError, Migrator},
    postgres::PgConnectOptions,
};

/// Brings the schema `engine` up to date. Safe to call from many processes at once.
///
/// # Errors
/// When the database is unreachable, or its schema is newer than this code.
pub async fn migrate(pool: &PgPool) -> Result<(), MigrateError> {
    migrator().run(pool).await
}

/// Returns the migrations of the schema `engine`, to be compared with those that a database has.
pub fn migrator() -> Migrator {
    let mut migrator = sqlx_macros::migrate!("./migrations");
    migrator.dangerous_set_table_name("engine._sqlx_migrations");
    migrator.create_schema("engine");
    migrator
}

/// Sets what the engine's statements need of a connection: no sequential scans, and no compiled plans.
///
/// All of them find rows by key. But PostgreSQL keeps the plan that it made for a prepared statement while the tables were
/// small, which reads them whole, until they are analysed for the first time a minute later. Measured with 64 callers in
/// the first seconds of a new database: 6,000 sagas a second without this, 14,800 with it. Where a scan can't be avoided,
/// as of a table without a fitting index, its price is now so high that PostgreSQL would compile the plan: measured 45 ms
/// for a statement that takes 0.1 ms.
pub fn with_engine_options(options: PgConnectOptions) -> PgConnectOptions {
    options.options([("enable_seqscan", "off"), ("jit", "off")])
}
