//! Database access with time-outs, and the classification of database errors.

use std::time::Duration;

use sqlx::{
    PgPool, Postgres,
    error::DatabaseError,
    pool::PoolConnection,
    postgres::{PgDatabaseError, PgSeverity},
};

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
/// it to the pool could wait on its socket forever and keep its slot. One that can't be used after an error is dropped,
/// too.
pub(crate) async fn on_connection<T>(
    mut connection: PoolConnection<Postgres>,
    timeout: Duration,
    work: impl AsyncFnOnce(&mut PoolConnection<Postgres>) -> Result<T, sqlx::Error>,
) -> Result<T, sqlx::Error> {
    let result = tokio::time::timeout(timeout, work(&mut connection))
        .await
        .unwrap_or_else(|_| Err(timed_out("the database gave no answer in time")));
    if result.as_ref().is_err_and(|error| !is_usable_after(error)) {
        drop(connection.detach());
    }
    result
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

/// Whose fault an error of the database is, which decides what is done about it (`docs/decisions/0024`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// The connection was lost, or the server accepts no work of anybody: it starts, stops, or is read-only.
    Connection,
    /// The server has no disk space or no connection left.
    Server,
    /// Another transaction holds a lock. It may do so for long, and only the sagas that need it should wait.
    Lock,
    /// It may pass by itself, and it may come back each time: a deadlock, a cancelled statement, no memory, a damaged
    /// file, an error inside the server.
    Unclear,
    /// The statement or its data: it fails again each time.
    Statement,
}

/// Says whose fault an error is, by its SQLSTATE.
pub(crate) fn blame(error: &sqlx::Error) -> Blame {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => Blame::Connection,
        // Also a message that is too large to be sent.
        sqlx::Error::Protocol(_) => Blame::Unclear,
        sqlx::Error::Database(error) => {
            error.code().map_or(Blame::Statement, |code| blame_of(&code, ends_session(error.as_ref())))
        }
        _ => Blame::Statement,
    }
}

/// As [`blame`], for an error of the engine's own statements. They are the same for all sagas and only their data
/// differs, so an error about the schema, a permission or the session is not the fault of one saga.
pub(crate) fn blame_in_engine(error: &sqlx::Error) -> Blame {
    let code = error.as_database_error().and_then(DatabaseError::code);
    match (blame(error), code.as_deref().and_then(|code| code.get(..2))) {
        (Blame::Statement, Some("0A" | "25" | "26" | "28" | "3D" | "3F" | "42" | "55")) => Blame::Unclear,
        (blame, _) => blame,
    }
}

/// Whether an error has nothing to do with the statement, so that other statements fail as well.
pub(crate) fn concerns_everybody(error: &sqlx::Error) -> bool {
    matches!(blame(error), Blame::Connection | Blame::Server)
}

/// Whether the same work may succeed a moment later, so that a caller should be told to try again.
pub fn is_transient(error: &sqlx::Error) -> bool {
    blame(error) != Blame::Statement
}

/// Whether a server that refuses a connection with this error may accept one a moment later. Unlike [`is_transient`] it
/// tells a server that starts from a password that is wrong.
pub fn is_transient_refusal(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| blame_of(&code, false) != Blame::Statement)
        }
        sqlx::Error::Io(_) => true,
        _ => false,
    }
}

/// Whether an error of code that may only read is its own fault: its statement is wrong, or it wrote.
pub(crate) fn is_fault_of_reader(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    blame(error) == Blame::Statement || code.as_deref() == Some(READ_ONLY)
}

/// Whether the connection can be used after this error. A session that is read-only stays so.
pub(crate) fn is_usable_after(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            !ends_session(error.as_ref()) && error.code().as_deref() != Some(READ_ONLY)
        }
        error => blame(error) == Blame::Statement,
    }
}

/// SQLSTATE `read_only_sql_transaction`.
const READ_ONLY: &str = "25006";

fn blame_of(code: &str, ends_session: bool) -> Blame {
    match code {
        "55P03" => Blame::Lock,
        "53100" | "53300" => Blame::Server,
        READ_ONLY => Blame::Connection,
        // The transaction was idle for too long, or took too long, whatever its session does then.
        "25P03" | "25P04" => Blame::Unclear,
        // An error with such a code that leaves the session alive comes from elsewhere, such as a foreign server.
        _ if ends_session => Blame::Connection,
        // A constraint, unlike the others of its class.
        "40002" => Blame::Statement,
        _ => match code.get(..2) {
            Some("08" | "40" | "53" | "57" | "58" | "XX") => Blame::Unclear,
            _ => Blame::Statement,
        },
    }
}

/// Whether the server ended the session with this error.
fn ends_session(error: &dyn DatabaseError) -> bool {
    error
        .try_downcast_ref::<PgDatabaseError>()
        .is_some_and(|error| matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic))
}

#[cfg(test)]
mod tests {
    use super::{Blame, blame_of};

    #[test]
    fn an_error_is_blamed_by_its_sqlstate() {
        let blamed = |codes: &[&str], blame, ends_session| {
            for code in codes {
                assert_eq!(blame_of(code, ends_session), blame, "{code}");
            }
        };
        blamed(&["57P01", "57P02", "57P03", "08006", "08P01", "XX000", "28P01"], Blame::Connection, true);
        blamed(&["25006"], Blame::Connection, false);
        blamed(&["53100", "53300"], Blame::Server, false);
        blamed(&["53300"], Blame::Server, true);
        blamed(&["55P03"], Blame::Lock, false);
        blamed(&["25P03", "25P04"], Blame::Unclear, true);
        let unclear = [
            "08001", "40001", "40P01", "53000", "53200", "53400", "57014", "57P01", "58030", "XX000", "XX001",
        ];
        blamed(&unclear, Blame::Unclear, false);
        blamed(
            &["22P02", "23503", "23505", "40002", "42P01", "55000", "P0001", "", "é"],
            Blame::Statement,
            false,
        );
    }
}
