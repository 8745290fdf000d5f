//! Why a batch was not committed, and whose fault that is.

use crate::{
    model::{error::StepError, outcome::chain, status::StepSide},
    support::connection::{is_lock_timeout, is_transient},
};

/// Why a batch was not committed.
#[derive(Debug)]
pub(crate) enum CommitError {
    /// The database is away, or chose this transaction as a deadlock's victim: nobody's fault.
    Transient(sqlx::Error),
    /// A lock that was needed is held by somebody else for longer than was waited.
    LockTimeout(sqlx::Error),
    /// The batch at this place could not be done, or its outcome not be written.
    Step {
        side: Option<StepSide>,
        error: Vec<String>,
        /// User code was dropped, perhaps in the middle of a statement that the server still works on.
        cancelled_mid_statement: bool,
    },
}

/// Sorts an error by whose fault it is.
pub(crate) fn classify(error: StepError, side: Option<StepSide>) -> CommitError {
    match error {
        StepError::Database(error) if is_lock_timeout(&error) => CommitError::LockTimeout(error),
        StepError::Database(error) if is_transient(&error) => CommitError::Transient(error),
        other => CommitError::Step { side, error: chain(&other), cancelled_mid_statement: false },
    }
}
