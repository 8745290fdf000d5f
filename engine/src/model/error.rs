//! The engine's errors, one enum a boundary, divided by what the caller does about them.

use crate::model::{ids::SagaId, outcome::Failure};

/// A batch of a transaction step could not be worked on.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// PostgreSQL refused a statement or is away. Deadlocks, serialisation failures and lost connections cost no
    /// attempt; anything else is traced to the item at fault.
    #[error("the database refused the step")]
    Database(#[from] sqlx::Error),
    /// A saga that the step wanted to start was refused.
    #[error("a saga could not be started by the step")]
    Start(#[source] Box<StartError>),
    /// Anything else that makes the attempt of the item at fault fail.
    #[error("{0}")]
    Other(String),
}

/// A saga graph that is wrong; the message says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// A name is not kebab-case.
    #[error("`{0}` is stored as data: write it in kebab-case, such as `reserve-stock`")]
    BadName(String),
    /// Two steps of one saga share a name.
    #[error("saga `{saga}` has two steps named `{step}`: history tells steps apart by name, so rename one")]
    NameTwice {
        /// The saga.
        saga: String,
        /// The name used twice.
        step: String,
    },
    /// There is more than one point of no return.
    #[error(
        "saga `{saga}` has two pivots, `{first}` and `{second}`: keep the one that is the point of no return and add \
         the other with `then`"
    )]
    TwoPivots {
        /// The saga.
        saga: String,
        /// The earlier one.
        first: String,
        /// The later one.
        second: String,
    },
    /// The pivot or a later step declares an undo that would never run.
    #[error(
        "step `{step}` of saga `{saga}` declares an undo but {place}, where nothing is undone any more: \
         set `type Undo = ForwardOnly`, or move the step before the pivot"
    )]
    UndoNeverRuns {
        /// The saga.
        saga: String,
        /// The step.
        step: String,
        /// Where it stands.
        place: &'static str,
    },
    /// A step before the pivot says that it is never undone.
    #[error(
        "step `{step}` of saga `{saga}` is `ForwardOnly` but stands before the pivot (or the saga has none), where a \
         failure unwinds it: give it an undo, or `type Undo = NothingToUndo`, or put it behind the pivot"
    )]
    UndoUndecided {
        /// The saga.
        saga: String,
        /// The step.
        step: String,
    },
    /// A saga without steps.
    #[error("saga `{0}` has no steps: add one with `then`")]
    Empty(String),
    /// A retry policy is wrong.
    #[error("step `{step}` of saga `{saga}`: {reason}")]
    BadPolicy {
        /// The saga.
        saga: String,
        /// The step.
        step: String,
        /// What is wrong.
        reason: String,
    },
    /// Two definitions share a name.
    #[error("two sagas are named `{0}`: sagas are found by name, so rename one")]
    SagaTwice(String),
}

/// A saga was not started. Nothing of it is stored, but see [`StartError::Unavailable`].
#[derive(Clone, Debug, thiserror::Error)]
pub enum StartError {
    /// No definition of this name is registered here.
    #[error("no saga is named `{0}` here")]
    UnknownDefinition(String),
    /// The input can't be written as JSON, or does not fit the definition's input type.
    #[error("the input does not fit: {0}")]
    BadInput(String),
    /// The entry step said no.
    #[error("refused: {}", .0.message)]
    Refused(Failure),
    /// The database is away, or the entry step could not be run now: try again, with the same id or business key. The saga
    /// may stand nevertheless, if the answer to its commit was lost.
    #[error("can't start now: {0}")]
    Unavailable(String),
}

/// A saga can't be cancelled.
#[derive(Debug, thiserror::Error)]
pub enum CancelError {
    /// There is no such saga.
    #[error("there is no saga {0}")]
    NotFound(SagaId),
    /// It is past its point of no return.
    #[error("the saga is past its point of no return (`{pivot}`)")]
    PastPivot {
        /// The pivot's name.
        pivot: String,
    },
    /// It has already ended.
    #[error("the saga has already ended: {0}")]
    Ended(crate::model::status::Status),
    /// The observer of its definition refused the change.
    #[error("the saga's owner refused: {0}")]
    Owner(String),
    /// The database refused or is away.
    #[error("the database refused")]
    Database(#[from] sqlx::Error),
}

/// A dead job can't be retried or discarded.
#[derive(Debug, thiserror::Error)]
pub enum DeadJobError {
    /// There is no such dead job.
    #[error("there is no dead job {0}")]
    NotFound(crate::model::ids::DeadJobId),
    /// Somebody has retried or discarded it already.
    #[error("the dead job was already {0}")]
    AlreadyResolved(String),
    /// A discard would leave standing what its saga did and did not undo.
    #[error("{why}; retry it when the cause is mended, or insist on leaving it so")]
    NotUndone {
        /// The step that it died at.
        step: String,
        /// What is not undone.
        why: String,
    },
    /// The observer of its definition refused the change.
    #[error("the saga's owner refused: {0}")]
    Owner(String),
    /// Its time to live is over: its saga was given up, and it can only be read in the archive.
    #[error("the dead job {0} was archived when its time to live was over")]
    Archived(crate::model::ids::DeadJobId),
    /// The database refused or is away.
    #[error("the database refused")]
    Database(#[from] sqlx::Error),
}

impl From<StepError> for CancelError {
    fn from(error: StepError) -> Self {
        match error {
            StepError::Database(error) => Self::Database(error),
            other @ (StepError::Start(_) | StepError::Other(_)) => Self::Owner(sentence(&other)),
        }
    }
}

impl From<StepError> for DeadJobError {
    fn from(error: StepError) -> Self {
        match error {
            StepError::Database(error) => Self::Database(error),
            other @ (StepError::Start(_) | StepError::Other(_)) => Self::Owner(sentence(&other)),
        }
    }
}

fn sentence(error: &StepError) -> String {
    crate::model::outcome::chain(error).join(": ")
}

/// The engine could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A graph is wrong.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A time to live is for a saga that is not registered.
    #[error("a time to live is set for dead jobs of `{0}`, but no saga is named so")]
    NoSuchSaga(String),
}
