//! Why a batch was not committed, and whose fault that is.

use crate::{
    model::{
        error::StepError,
        outcome::{Failure, Retry, chain},
        status::StepSide,
    },
    store::locks::LockHolder,
    support::connection::{Blame, blame, blame_in_engine},
};

/// Why a batch was not committed.
#[derive(Debug)]
pub(crate) enum CommitError {
    /// The database could not be reached, for as long as the batch could be tried or before its first statement. No
    /// saga of the batch is at fault.
    Unreachable(sqlx::Error),
    /// An error that may pass. If it comes back while other transactions are committed, one saga of the batch is at
    /// fault.
    Transient { blame: Blame, side: Option<StepSide>, error: sqlx::Error },
    /// A statement waited too long for a lock that another transaction holds.
    LockTimeout {
        /// The side that waited; `None` for the fence.
        side: Option<StepSide>,
        error: sqlx::Error,
        /// Who holds the lock, if the server was asked and told.
        holder: Option<LockHolder>,
    },
    /// The output of a saga's step is too large: the saga at fault fails with this failure, and what the step wrote has to
    /// be taken back.
    OutputTooLarge { side: Option<StepSide>, failure: Failure },
    /// A saga's step can't go on yet, because of an entry step that puts its start off: it is put off, too, and whatever it
    /// did has to be taken back.
    PutOff { side: StepSide, retry: Box<Retry> },
    /// A step of the batch failed, or its outcome could not be written.
    Step {
        side: Option<StepSide>,
        error: Vec<String>,
        /// User code was dropped, perhaps during a statement that the server still executes.
        cancelled_mid_statement: bool,
    },
}

impl CommitError {
    /// Whether one saga of the batch may be at fault, so that trying the whole batch again and again would be in vain. Of
    /// several sagas that only ever fail together, nobody knows whether one of them is.
    pub(super) fn is_suspicious(&self, others_commit: bool, is_alone: bool) -> bool {
        matches!(self, Self::Transient { blame, .. } if others_commit || !is_alone || *blame == Blame::Unclear)
    }

    /// What is left of an error once the time for retries is over.
    pub(super) fn after_retries(self) -> Self {
        match self {
            Self::LockTimeout { error, .. } => Self::Unreachable(error),
            Self::Transient { blame, error, .. } if blame != Blame::Unclear => Self::Unreachable(error),
            other @ (Self::Unreachable(_)
            | Self::Transient { .. }
            | Self::OutputTooLarge { .. }
            | Self::PutOff { .. }
            | Self::Step { .. }) => other,
        }
    }
}

/// Classifies an error of a step, of an observer or of the commit.
pub(crate) fn classify(error: StepError, side: Option<StepSide>) -> CommitError {
    match error {
        StepError::Database(error) => of(blame(&error), error, side),
        StepError::OutputTooLarge(failure) => CommitError::OutputTooLarge { side, failure },
        other => CommitError::Step { side, error: chain(&other), cancelled_mid_statement: false },
    }
}

/// Classifies an error of the engine's own statements that write the outcome of the steps.
pub(crate) fn classify_write(error: sqlx::Error, side: Option<StepSide>) -> CommitError {
    of(blame_in_engine(&error), error, side)
}

/// Classifies an error of the fence, which comes before all steps: whatever it is, it gets some tries.
pub(crate) fn classify_fence(error: sqlx::Error) -> CommitError {
    match blame(&error) {
        Blame::Statement => of(Blame::Unclear, error, None),
        blame => of(blame, error, None),
    }
}

fn of(blame: Blame, error: sqlx::Error, side: Option<StepSide>) -> CommitError {
    match blame {
        Blame::Lock => CommitError::LockTimeout { side, error, holder: None },
        Blame::Connection | Blame::Server | Blame::Unclear => CommitError::Transient { blame, side, error },
        Blame::Statement => {
            let error = chain(&StepError::Database(error));
            CommitError::Step { side, error, cancelled_mid_statement: false }
        }
    }
}
