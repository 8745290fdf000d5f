//! Transactions whose waits for locks are limited.

use std::time::Duration;

use sqlx::{Connection, PgConnection, Postgres, Transaction};

/// Begins a transaction whose statements wait no longer than `limit` for a lock, in one round trip.
pub(crate) async fn begin_bounded(
    conn: &mut PgConnection,
    limit: Duration,
) -> Result<Transaction<'_, Postgres>, sqlx::Error> {
    let begin = format!("begin; set local lock_timeout = '{}ms'", limit.as_millis());
    conn.begin_with(sqlx::AssertSqlSafe(begin)).await
}
