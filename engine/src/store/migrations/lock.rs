//! The lock that one migrator of a database holds at a time.
//!
//! It is taken by polling. A migrator that waited inside `pg_advisory_lock` would keep that statement's snapshot, and an
//! index that the holder builds concurrently waits until all older snapshots are gone: each would wait for the other.

use std::time::{Duration, Instant};

use sqlx::PgConnection;

use super::error::MigrationError;
use crate::support::jitter::jittered;

/// The key of the advisory lock: `sagamigr` in ASCII. Advisory locks belong to one database.
const KEY: i64 = 0x7361_6761_6d69_6772;

const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// How often a migrator that waits says so.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Takes the lock for the session of this connection.
pub(super) async fn acquire(conn: &mut PgConnection, max_wait: Duration) -> Result<(), MigrationError> {
    let started = Instant::now();
    let mut next_report = Duration::ZERO;
    while !try_lock(conn).await? {
        // Without a holder the lock has just been released.
        let Some(holder) = holder(conn).await? else { continue };
        let waited = started.elapsed();
        if waited >= max_wait {
            return Err(MigrationError::Locked { holder, waited });
        }
        if waited >= next_report {
            next_report = waited + REPORT_INTERVAL;
            tracing::info!(
                "another migration is running (pid {holder} of the server); waited {} s for it",
                waited.as_secs()
            );
        }
        tokio::time::sleep(jittered(POLL_INTERVAL).min(max_wait.saturating_sub(waited))).await;
    }
    Ok(())
}

/// Gives the lock back.
pub(super) async fn release(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("select pg_advisory_unlock($1)").bind(KEY).execute(conn).await.map(drop)
}

async fn try_lock(conn: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select pg_try_advisory_lock($1)").bind(KEY).fetch_one(conn).await
}

/// The process of the database server that holds the lock.
async fn holder(conn: &mut PgConnection) -> Result<Option<i32>, sqlx::Error> {
    sqlx::query_scalar(
        "select pid from pg_locks
         where locktype = 'advisory' and granted and objsubid = 1
           and database = (select oid from pg_database where datname = current_database())
           and classid::bigint = ($1 >> 32) & 4294967295 and objid::bigint = $1 & 4294967295",
    )
    .bind(KEY)
    .fetch_optional(conn)
    .await
}
