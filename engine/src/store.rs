//! All SQL of the engine: one statement in each function; the caller owns the transaction.

pub(crate) mod archive;
pub(crate) mod audit;
pub(crate) mod children;
pub(crate) mod claims;
pub(crate) mod commits;
pub(crate) mod counts;
pub(crate) mod dead_job_requests;
pub(crate) mod dead_jobs;
pub(crate) mod decisions;
pub(crate) mod graphs;
pub(crate) mod hints;
pub(crate) mod history_runs;
pub(crate) mod in_flight;
pub(crate) mod inbox;
pub(crate) mod locks;
pub(crate) mod migrations;
pub(crate) mod processes;
pub(crate) mod progress;
pub(crate) mod queries;
pub(crate) mod queues;
pub(crate) mod retention;
pub(crate) mod rows;
pub(crate) mod saga_lists;
pub(crate) mod saga_state;
pub(crate) mod savepoints;
pub(crate) mod sessions;
pub(crate) mod signal_lists;
pub(crate) mod signals;
pub(crate) mod starts;
#[cfg(feature = "testing")]
pub(crate) mod testing;
pub(crate) mod transactions;
pub(crate) mod trees;

use sqlx::{PgPool, postgres::PgConnectOptions};

use migrations::{MigrationError, Migrations, TablePrivileges};

/// Brings the schema `engine` up to date. Safe to call from many processes at once.
///
/// # Errors
/// As [`Migrations::run`].
pub async fn migrate(pool: &PgPool) -> Result<(), MigrationError> {
    migrations().run(pool).await
}

/// The migrations of the schema `engine`, to be compared with those that a database has applied.
pub fn migrations() -> Migrations {
    Migrations::new(&sqlx_macros::migrate!("./migrations"), "engine", "_sqlx_migrations").privileges(
        TablePrivileges {
            read_only: &["admission", "audit_retention"],
            append_only: &["audit", "start_batch"],
        },
    )
}

/// Tunes connection options for the engine's statements, and those of the steps: no sequential scans, no bitmap scans
/// and no JIT compilation. The pool of an engine is made with them.
///
/// All statements find rows by key. But while the tables are small, PostgreSQL prepares plans that read them whole, and
/// keeps these plans until autovacuum first analyses the tables, a minute later. Measured with 64 callers in the first
/// seconds of a new database: 6,000 sagas a second without this option, 14,800 with it. A scan that can't be avoided,
/// as of a table without a suitable index, now has so high a cost that PostgreSQL would compile its plan: measured 45
/// ms for a statement that takes 0.1 ms.
///
/// Nor are they planned with bitmap scans. Those read all that an index has under a key before the first row is
/// returned. For a hot row behind a held snapshot these are thousands of dead versions, and PostgreSQL's statistics,
/// which count none of them, let a bitmap look as cheap as the index that leads to the newest version first.
///
/// So that plans are kept, the statements of the hot path read their first array through a subquery, such as
/// `any((select $1::uuid[])::uuid[])`. PostgreSQL plans a statement anew at each execution as long as that promises a
/// cheaper plan than the one it has kept, and an array that it knows to be shorter than ten always does. The plan is
/// the same, and making it took 0.11 of the 0.13 ms of the fence. It does not look into a subquery.
pub fn tuned(options: PgConnectOptions) -> PgConnectOptions {
    options.options(ENGINE_SETTINGS)
}

/// The settings of [`tuned`], by name and value.
pub const ENGINE_SETTINGS: [(&str, &str); 3] =
    [("enable_seqscan", "off"), ("enable_bitmapscan", "off"), ("jit", "off")];
