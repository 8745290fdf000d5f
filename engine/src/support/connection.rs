//! Database access with time-outs, and the classification of database errors.

use std::time::Duration;

use sqlx::{PgPool, Postgres, pool::PoolConnection};

/// The error for an answer that did not arrive in time.
pub(crate) fn timed_out(what: &'static str) -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, what))
}

/// Acquires a connection of the pool, and waits for it no longer than `timeout`.
pub(crate) async fn acquire(
    pool: &PgPool,
    timeout: Duration,
) -> Result<PoolConnection<Postgres>, sqlx::Error> {
    tokio::time::timeout(timeout, pool.acquire()).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

/// Awaits work on a connection. If it does not finish in time, the connection is taken for dead and dropped: returning
/// it to the pool could wait on its socket forever and keep its slot.
pub(crate) async fn on_connection<T>(
    mut connection: PoolConnection<Postgres>,
    timeout: Duration,
    work: impl AsyncFnOnce(&mut PoolConnection<Postgres>) -> Result<T, sqlx::Error>,
) -> Result<T, sqlx::Error> {
    if let Ok(result) = tokio::time::timeout(timeout, work(&mut connection)).await {
        return result;
    }
    drop(connection.detach());
    Err(timed_out("the database gave no answer in time"))
}

/// Runs work on a connection of a pool. Waits no longer than `timeout` for the connection, and as long again for the
/// work. A connection without an answer in time is dropped.
///
/// # Errors
/// The error of the work, or a time-out. After a time-out it is unknown what the database did.
pub async fn with_timeout<T>(
    pool: &PgPool,
    timeout: Duration,
    work: impl AsyncFnOnce(&mut PoolConnection<Postgres>) -> Result<T, sqlx::Error>,
) -> Result<T, sqlx::Error> {
    let connection = acquire(pool, timeout).await?;
    on_connection(connection, timeout, work).await
}

/// Whether the same statement may succeed later: connection trouble, deadlocks, serialisation failures, a server that
/// is starting or stopping, or too many connections.
pub(crate) fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            matches!(
                code.as_ref(),
                "40001" | "40P01" | "55P03" | "25P03" | "25006" | "57P01" | "57P02" | "57P03"
            ) || code.starts_with("08")
                || code.starts_with("53")
        }),
        _ => false,
    }
}

/// Whether a statement timed out waiting for a lock. The lock may be held for long, and only the sagas that need it
/// should wait.
pub(crate) fn is_lock_timeout(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code).is_some_and(|code| code == "55P03")
}
