//! The cost of a run for the database server: commits and processor time, with the server's durability settings.

use std::time::Duration;

use devkit::cpu_time;
use serde::Serialize;
use sqlx::PgConnection;

use super::database::BenchDatabase;

/// The settings that decide how durable a commit is.
const DURABILITY: [&str; 5] =
    ["fsync", "synchronous_commit", "full_page_writes", "wal_level", "shared_buffers"];

/// Counters at one moment.
pub(super) struct Counters {
    commits: i64,
    cpu_seconds: Option<f64>,
}

/// The server's version and settings, and the cost of the run.
#[derive(Serialize)]
pub(super) struct ServerFigures {
    /// The server's version.
    pub(super) version: String,
    /// The server's durability settings.
    pub(super) settings: Vec<(String, String)>,
    /// Committed transactions for each saga, including read-only ones and those of the warm-up.
    pub(super) commits_per_saga: f64,
    /// Processor time of the whole run in seconds, where the server runs on this machine.
    pub(super) cpu_seconds: Option<f64>,
}

/// Reads the counters of the run's database. Connections report their part when they close, so this waits up to five seconds
/// until none is open.
pub(super) async fn counters(database: &BenchDatabase) -> Result<Counters, sqlx::Error> {
    let mut admin = database.admin().await?;
    for _ in 0..50 {
        if open_connections(&mut admin, database.name()).await? == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let commits = commits(&mut admin, database.name()).await?;
    let cpu_seconds = database.server_pid().and_then(cpu_time::with_children);
    Ok(Counters { commits, cpu_seconds })
}

/// Computes the figures from the counters before and after the run.
pub(super) async fn figures(
    database: &BenchDatabase,
    before: &Counters,
    after: &Counters,
    sagas: u64,
) -> Result<ServerFigures, sqlx::Error> {
    let mut admin = database.admin().await?;
    #[expect(clippy::cast_precision_loss, reason = "both are far below what an f64 counts exactly")]
    let commits_per_saga = (after.commits - before.commits) as f64 / sagas.max(1) as f64;
    Ok(ServerFigures {
        version: version(&mut admin).await?,
        settings: settings(&mut admin).await?,
        commits_per_saga,
        cpu_seconds: before.cpu_seconds.zip(after.cpu_seconds).map(|(before, after)| after - before),
    })
}

async fn open_connections(admin: &mut PgConnection, database: &str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select count(*) from pg_stat_activity where datname = $1")
        .bind(database)
        .fetch_one(admin)
        .await
}

async fn commits(admin: &mut PgConnection, database: &str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select xact_commit from pg_stat_database where datname = $1")
        .bind(database)
        .fetch_one(admin)
        .await
}

async fn version(admin: &mut PgConnection) -> Result<String, sqlx::Error> {
    sqlx::query_scalar("select current_setting('server_version')").fetch_one(admin).await
}

async fn settings(admin: &mut PgConnection) -> Result<Vec<(String, String)>, sqlx::Error> {
    sqlx::query_as("select name, current_setting(name) from unnest($1::text[]) with ordinality as wanted (name, place) order by place")
        .bind(DURABILITY.as_slice())
        .fetch_all(admin)
        .await
}
