//! What to do about a saga that is alone in its batch and still can't be committed.

use crate::model::status::StepSide;

/// What to do about a saga that is alone in its batch and still can't be committed.
#[derive(Clone, Debug, Default)]
pub(crate) enum Recovery {
    /// Nothing yet.
    #[default]
    None,
    /// These steps are known to fail their batch: they are not run again, and a failed attempt is recorded for each.
    FailSteps(Vec<FailedStep>),
    /// Recording failed attempts did not help either: the saga is dead-lettered with this error, and its observer is
    /// not called, because the observer may be what fails.
    DeadLetter(Vec<String>),
}

/// A step that is known to fail its batch.
#[derive(Clone, Debug)]
pub(crate) struct FailedStep {
    side: StepSide,
    error: Vec<String>,
}

impl Recovery {
    /// The next recovery to try, after this one failed at `side`; `None` when none is left.
    pub(crate) fn next(self, side: Option<StepSide>, error: Vec<String>) -> Option<Self> {
        let mut failed = match self {
            Self::None => Vec::new(),
            Self::FailSteps(failed) => failed,
            Self::DeadLetter(_) => return None,
        };
        let Some(side) = side.filter(|side| !failed.iter().any(|step| step.side == *side)) else {
            return Some(Self::DeadLetter(error));
        };
        failed.push(FailedStep { side, error });
        Some(Self::FailSteps(failed))
    }

    /// The recorded error of a step that is not run again.
    pub(crate) fn error_for(&self, side: StepSide) -> Option<&[String]> {
        let Self::FailSteps(failed) = self else { return None };
        failed.iter().find(|step| step.side == side).map(|step| step.error.as_slice())
    }
}
