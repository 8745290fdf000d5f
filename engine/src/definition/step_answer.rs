//! What a step answers for one saga, encoded.

use crate::{
    definition::computed::Uncomputed,
    model::{
        outcome::{Failure, Outcome, Retry},
        stored_value::{StoredValue, TooLarge},
    },
};

/// A step's answer, with its output as JSON. The `Done` of an undo has no output.
#[derive(Clone, Debug)]
pub(crate) enum StepAnswer {
    Outcome(Outcome<Option<StoredValue>>),
    /// This code can't read the stored data, and the step was not run: the saga is dead-lettered.
    InputUnreadable(String),
    /// The step was run, or may have been, and its output can't be stored: the saga is dead-lettered.
    OutputUnstorable(String),
    /// The step was run, and its output is larger than the limit. A transaction step's writes have to be taken back; a
    /// call is in doubt. It is not tried again.
    OutputTooLarge(Failure),
    /// The step was not run, because this transaction has no savepoint left. The saga goes on in another one.
    NotRun,
}

impl StepAnswer {
    pub(crate) fn done(output: Option<StoredValue>) -> Self {
        Self::Outcome(Outcome::Done(output))
    }

    /// This answer, unless its output is larger than `limit`.
    pub(crate) fn within(self, limit: usize, step: &str) -> Self {
        let Self::Outcome(Outcome::Done(Some(output))) = &self else { return self };
        let Err(TooLarge { size, limit }) = output.check_size(limit) else { return self };
        let message = format!("the output of `{step}` has {size} bytes, and may have {limit}");
        Self::OutputTooLarge(Failure::new(Failure::OUTPUT_TOO_LARGE, message))
    }

    /// The failure of an answer whose output is too large.
    pub(crate) fn too_large(&self) -> Option<&Failure> {
        match self {
            Self::OutputTooLarge(failure) => Some(failure),
            Self::Outcome(_) | Self::InputUnreadable(_) | Self::OutputUnstorable(_) | Self::NotRun => None,
        }
    }

    /// Whether the step ran and was not done.
    #[cfg(feature = "testing")]
    pub(crate) fn is_no(&self) -> bool {
        match self {
            Self::Outcome(outcome) => !matches!(outcome, Outcome::Done(_)),
            Self::OutputUnstorable(_) | Self::OutputTooLarge(_) => true,
            Self::InputUnreadable(_) | Self::NotRun => false,
        }
    }

    /// Why the output of an answer can't be stored.
    pub(super) fn unstorable(&self) -> Option<&str> {
        match self {
            Self::OutputUnstorable(reason) => Some(reason),
            Self::Outcome(_) | Self::InputUnreadable(_) | Self::OutputTooLarge(_) | Self::NotRun => None,
        }
    }
}

impl From<Uncomputed> for StepAnswer {
    fn from(uncomputed: Uncomputed) -> Self {
        match uncomputed {
            Uncomputed::Unreadable(error) => Self::InputUnreadable(error),
            Uncomputed::Failed(error) => Self::Outcome(Outcome::Retry(Retry::message(error))),
        }
    }
}
