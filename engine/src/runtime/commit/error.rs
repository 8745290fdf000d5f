//! Why a batch was not committed: transient trouble, a lock time-out, or a step that failed.

use crate::{
    model::{error::StepError, outcome::chain, status::StepSide},
    support::connection::{is_lock_timeout, is_transient},
};

/// Why a batch was not committed.
#[derive(Debug)]
pub(crate) enum CommitError {
    /// The database can't be reached, or chose this transaction as a deadlock victim. No saga of the batch is at fault.
    Transient(sqlx::Error),
    /// A statement waited too long for a lock that another transaction holds.
    LockTimeout(sqlx::Error),
    /// A step of the batch failed, or its outcome could not be written.
    Step {
        side: Option<StepSide>,
        error: Vec<String>,
        /// User code was dropped, perhaps during a statement that the server still executes.
        cancelled_mid_statement: bool,
    },
}

/// Classifies an error by what has to be done about it.
pub(crate) fn classify(error: StepError, side: Option<StepSide>) -> CommitError {
    match error {
        StepError::Database(error) if is_lock_timeout(&error) => CommitError::LockTimeout(error),
        StepError::Database(error) if is_transient(&error) => CommitError::Transient(error),
        other => CommitError::Step { side, error: chain(&other), cancelled_mid_statement: false },
    }
}
