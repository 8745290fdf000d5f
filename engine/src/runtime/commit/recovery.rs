//! What to do about a saga that is alone in its batch and still can't be committed.

use crate::model::{
    outcome::{Outcome, Retry},
    status::StepSide,
    stored_value::StoredValue,
};

/// What to do about a saga that is alone in its batch and still can't be committed.
#[derive(Clone, Debug, Default)]
pub(crate) enum Recovery {
    /// Nothing yet.
    #[default]
    None,
    /// These steps are known to fail their batch: they are not run again, and each gets its recorded outcome, which is a
    /// failed attempt, a postponement or a failure for good.
    FailSteps(Vec<FailedStep>),
    /// Recording failed attempts did not help either: the saga is dead-lettered with this error, and its observer is
    /// not called, because the observer may be what fails.
    DeadLetter(Vec<String>),
}

/// A step that is known to fail its batch.
#[derive(Clone, Debug)]
pub(crate) struct FailedStep {
    side: StepSide,
    outcome: Outcome<Option<StoredValue>>,
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
        failed.push(FailedStep { side, outcome: Outcome::Retry(Retry::of(error)) });
        Some(Self::FailSteps(failed))
    }

    /// This recovery; in addition, the step at `side` has this outcome.
    pub(crate) fn with_outcome(self, side: StepSide, outcome: Outcome<Option<StoredValue>>) -> Self {
        let mut failed = match self {
            Self::None => Vec::new(),
            Self::FailSteps(failed) => failed,
            // No step is run.
            Self::DeadLetter(_) => return self,
        };
        failed.push(FailedStep { side, outcome });
        Self::FailSteps(failed)
    }

    /// The recorded outcome of a step that is not run again.
    pub(crate) fn outcome_for(&self, side: StepSide) -> Option<&Outcome<Option<StoredValue>>> {
        let Self::FailSteps(failed) = self else { return None };
        failed.iter().find(|step| step.side == side).map(|step| &step.outcome)
    }
}
