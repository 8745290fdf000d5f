//! The engine's errors: one enum for each boundary, with a variant for each thing that the caller can do about it.

use crate::model::{ids::SagaId, outcome::Failure, stored_value::TooLarge};

/// Why a batch of a transaction step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// PostgreSQL refused a statement or can't be reached. An error that may pass, such as a deadlock, costs no attempt,
    /// unless it hits the same saga again and again while others are committed. A lost connection and a lock time-out
    /// never cost one. For any other error, bisecting finds the item at fault.
    #[error("a statement of the step failed")]
    Database(#[from] sqlx::Error),
    /// A saga that the step tried to start was refused.
    #[error("the step could not start a saga")]
    Start(#[source] Box<StartError>),
    /// The output of an item is larger than [`EngineBuilder::max_payload`](crate::EngineBuilder::max_payload) allows: the
    /// item at fault fails for good with this failure. The engine itself makes this error.
    #[error("{}", .0.message)]
    OutputTooLarge(Failure),
    /// Any other failure; the attempt of the item at fault fails.
    #[error("{0}")]
    Other(String),
}

/// Why a graph is wrong; the message says what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// A name is not kebab-case.
    #[error("`{0}` is stored as data: write it in kebab-case, such as `reserve-stock`")]
    BadName(String),
    /// Two steps of one saga share a name.
    #[error("saga `{saga}` has two steps named `{step}`: history tells steps apart by name, so rename one")]
    NameTwice {
        /// The name of the saga.
        saga: String,
        /// The name that is used twice.
        step: String,
    },
    /// The saga has more than one pivot.
    #[error(
        "saga `{saga}` has two pivots, `{first}` and `{second}`: keep the one that is the point of no return and add \
         the other with `then`"
    )]
    TwoPivots {
        /// The name of the saga.
        saga: String,
        /// The name of the earlier pivot.
        first: String,
        /// The name of the later pivot.
        second: String,
    },
    /// The pivot or a step after it declares an undo that would never run.
    #[error(
        "step `{step}` of saga `{saga}` declares an undo but {place}, where nothing is undone any more: \
         set `type Undo = ForwardOnly`, or move the step before the pivot"
    )]
    UndoNeverRuns {
        /// The name of the saga.
        saga: String,
        /// The name of the step.
        step: String,
        /// Where the step is relative to the pivot.
        place: &'static str,
    },
    /// A step before the pivot declares that it is never undone.
    #[error(
        "step `{step}` of saga `{saga}` is `ForwardOnly` but is before the pivot (or the saga has none), where a \
         failure undoes it: give it an undo, or `type Undo = NothingToUndo`, or put it after the pivot"
    )]
    UndoUndecided {
        /// The name of the saga.
        saga: String,
        /// The name of the step.
        step: String,
    },
    /// The saga has no steps.
    #[error("saga `{0}` has no steps: add one with `then`")]
    Empty(String),
    /// The arm of a `when` has no steps.
    #[error("choice `{choice}` of saga `{saga}` has no steps in its arm: add one, or leave the choice out")]
    EmptyArm {
        /// The name of the saga.
        saga: String,
        /// The name of the choice.
        choice: String,
    },
    /// A step has a child whose definition is not registered.
    #[error(
        "step `{step}` of saga `{saga}` has the child `{child}`, which is not registered: register it, too"
    )]
    NoSuchChild {
        /// The name of the saga.
        saga: String,
        /// The name of the step.
        step: String,
        /// The name of the child's definition.
        child: String,
    },
    /// A child that has to be undone if its parent compensates has a pivot.
    #[error(
        "step `{step}` of saga `{saga}` is before its pivot (or it has none), where its child `{child}` is undone if it \
         compensates, but that has a pivot: move the step behind the pivot, or take the pivot out of the child"
    )]
    ChildHasPivot {
        /// The name of the saga.
        saga: String,
        /// The name of the step.
        step: String,
        /// The name of the child's definition.
        child: String,
    },
    /// A definition has itself among its descendants.
    #[error(
        "saga `{saga}` contains itself (through {through}): a tree of sagas has an end, so let it start another with `tx.start`"
    )]
    ContainsItself {
        /// The name of the saga.
        saga: String,
        /// Its ancestors, the topmost first.
        through: String,
    },
    /// A definition has too many generations of children.
    #[error("saga `{saga}` has descendants with more than {deepest} ancestors: flatten the tree")]
    TooDeep {
        /// The name of the topmost saga.
        saga: String,
        /// How many ancestors a saga may have.
        deepest: u16,
    },
    /// A retry policy is wrong.
    #[error("step `{step}` of saga `{saga}`: {reason}")]
    BadPolicy {
        /// The name of the saga.
        saga: String,
        /// The name of the step.
        step: String,
        /// What is wrong.
        reason: String,
    },
    /// A wait is so long that it has no end.
    #[error(
        "step `{step}` of saga `{saga}` waits without an end: give it a time of ten years at most, and decide in the next \
         step what happens when it is over"
    )]
    EndlessWait {
        /// The name of the saga.
        saga: String,
        /// The name of the step.
        step: String,
    },
    /// A wait before the pivot, or together with the sleeps before it, takes longer than the deadline allows.
    #[error(
        "step `{step}` of saga `{saga}` waits until after the deadline ({deadline:?} after the start), which undoes \
         everything: wait for less, or set a later deadline"
    )]
    WaitBeyondDeadline {
        /// The name of the saga.
        saga: String,
        /// The name of the step.
        step: String,
        /// The deadline.
        deadline: std::time::Duration,
    },
    /// Two steps wait for signals of one name and different types.
    #[error(
        "saga `{saga}` waits for the signal `{signal}` with messages of two types: a sender could not tell which: give \
         one of them another name"
    )]
    TwoMessages {
        /// The name of the saga.
        saga: String,
        /// The name of the signal.
        signal: String,
    },
    /// Two registered definitions share a name.
    #[error("two sagas are named `{0}`: sagas are found by name, so rename one")]
    SagaTwice(String),
    /// An earlier graph was registered of a saga that is not registered itself.
    #[error(
        "an earlier graph of saga `{0}` is registered, but no saga `{0}`: register its newest graph, too"
    )]
    EarlierOfNone(String),
    /// Two registered definitions have the same graph.
    #[error(
        "two graphs of saga `{saga}` are the same ({hash}), so that a saga could not tell which of them it belongs to: \
         register one of them, or raise the newer one's `revision`"
    )]
    SameGraph {
        /// The name of the saga.
        saga: String,
        /// The hash of both graphs.
        hash: String,
    },
}

/// Why a saga was not started. Nothing of it is stored, except perhaps with [`StartError::Unavailable`].
#[derive(Clone, Debug, thiserror::Error)]
pub enum StartError {
    /// No definition of this name is registered here.
    #[error("no saga is named `{0}` here")]
    UnknownDefinition(String),
    /// The input can't be written as JSON, or does not fit the definition's input type.
    #[error("the input does not fit at `{pointer}`: {reason}")]
    BadInput {
        /// The place that is wrong, as a JSON pointer into the input (RFC 6901); empty for the input as a whole.
        pointer: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The input is larger than [`EngineBuilder::max_payload`](crate::EngineBuilder::max_payload) allows.
    #[error("the input has {size} bytes, and may have {limit}")]
    InputTooLarge {
        /// The bytes of its JSON.
        size: usize,
        /// How many it may have.
        limit: usize,
    },
    /// The entry step failed.
    #[error("refused: {}", .0.message)]
    Refused(Failure),
    /// The database can't be reached, or the entry step could not be run now: try again, with the same id or business
    /// key. If the answer to the commit was lost, the saga may exist nevertheless.
    #[error("can't start now: {0}")]
    Unavailable(String),
}

impl StartError {
    /// An input that is wrong as a whole.
    pub(crate) fn bad_input(reason: impl Into<String>) -> Self {
        Self::BadInput { pointer: String::new(), reason: reason.into() }
    }
}

impl From<TooLarge> for StartError {
    fn from(TooLarge { size, limit }: TooLarge) -> Self {
        Self::InputTooLarge { size, limit }
    }
}

/// Why a saga can't be cancelled.
#[derive(Debug, thiserror::Error)]
pub enum CancelError {
    /// There is no such saga.
    #[error("there is no saga {0}")]
    NotFound(SagaId),
    /// The saga is past its pivot.
    #[error("the saga is past its point of no return (`{pivot}`)")]
    PastPivot {
        /// The pivot's name.
        pivot: String,
    },
    /// The saga has already ended.
    #[error("the saga has already ended: {0}")]
    Ended(crate::model::status::Status),
    /// The observer of the saga's definition, which its owner registered, refused the change; the text says why.
    #[error("the saga's owner refused: {0}")]
    RefusedByObserver(String),
    /// The database refused a statement or can't be reached.
    #[error("the database refused")]
    Database(#[from] sqlx::Error),
}

/// Why a dead job can't be retried or discarded.
#[derive(Debug, thiserror::Error)]
pub enum DeadJobError {
    /// There is no such dead job.
    #[error("there is no dead job {0}")]
    NotFound(crate::model::ids::DeadJobId),
    /// An operator has already retried or discarded it.
    #[error("the dead job was already {0}")]
    AlreadyResolved(String),
    /// A discard would leave effects that are not undone, or children that have not ended.
    #[error("{why}; retry it once the cause is fixed, or force the discard")]
    NotUndone {
        /// The step at which the saga died.
        step: String,
        /// What is not undone.
        why: String,
    },
    /// Something else would happen to it now than its plan says.
    #[error("it changed since the plan was made")]
    NotAsPlanned,
    /// The observer of the saga's definition, which its owner registered, refused the change; the text says why.
    #[error("the saga's owner refused: {0}")]
    RefusedByObserver(String),
    /// The dead job's time to live is over: its saga was given up, and the record can only be read in the archive.
    #[error("the dead job {0} was archived when its time to live was over")]
    Archived(crate::model::ids::DeadJobId),
    /// The database refused a statement or can't be reached.
    #[error("the database refused")]
    Database(#[from] sqlx::Error),
}

impl From<StepError> for CancelError {
    fn from(error: StepError) -> Self {
        match error {
            StepError::Database(error) => Self::Database(error),
            other @ (StepError::Start(_) | StepError::OutputTooLarge(_) | StepError::Other(_)) => {
                Self::RefusedByObserver(sentence(&other))
            }
        }
    }
}

impl From<StepError> for DeadJobError {
    fn from(error: StepError) -> Self {
        match error {
            StepError::Database(error) => Self::Database(error),
            other @ (StepError::Start(_) | StepError::OutputTooLarge(_) | StepError::Other(_)) => {
                Self::RefusedByObserver(sentence(&other))
            }
        }
    }
}

fn sentence(error: &StepError) -> String {
    crate::model::outcome::chain(error).join(": ")
}

/// Why an engine could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A graph is wrong.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A time to live is set for a definition that is not registered.
    #[error("a time to live is set for dead jobs of `{0}`, but no saga has this name")]
    NoSuchSaga(String),
    /// The lease is shorter than [`SHORTEST_LEASE`](crate::SHORTEST_LEASE).
    #[error("the lease of {given:?} is too short: a slow batch may need {shortest:?}")]
    LeaseTooShort {
        /// The lease that was set.
        given: std::time::Duration,
        /// The shortest lease.
        shortest: std::time::Duration,
    },
}
