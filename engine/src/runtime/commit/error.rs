//! Why a batch was not committed, and whose fault that is.

use crate::model::{error::StepError, outcome::chain, status::Direction};

/// Why a batch was not committed.
#[derive(Debug)]
pub(crate) enum CommitError {
    /// The database is away, or chose this transaction as a deadlock's victim: nobody's fault.
    Transient(sqlx::Error),
    /// A lock that was needed is held by somebody else for longer than was waited.
    LockTimeout(sqlx::Error),
    /// The batch at this place could not be done, or its outcome not be written.
    Step {
        at: Option<(Direction, usize)>,
        error: Vec<String>,
        /// User code was dropped, perhaps in the middle of a statement that the server still works on.
        cancelled_mid_statement: bool,
    },
}

/// Sorts an error by whose fault it is.
pub(crate) fn classify(error: StepError, at: Option<(Direction, usize)>) -> CommitError {
    match error {
        StepError::Database(error) if is_lock_timeout(&error) => CommitError::LockTimeout(error),
        StepError::Database(error) if is_transient(&error) => CommitError::Transient(error),
        other => CommitError::Step { at, error: chain(&other), cancelled_mid_statement: false },
    }
}

/// Whether the same statement may well succeed later: connection trouble, deadlocks, serialisation failures, a server
/// that starts or stops, and a full one.
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

/// Whether a statement waited in vain for a lock that somebody else holds. It may be held for long, and it is known for
/// whose work it is needed.
pub(crate) fn is_lock_timeout(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code).is_some_and(|code| code == "55P03")
}
