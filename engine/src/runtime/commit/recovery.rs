//! What is done about a saga that is alone in its batch and still can't be committed.

use crate::model::status::StepSide;

/// What is done about a saga that is alone in its batch and still can't be committed.
#[derive(Clone, Debug, Default)]
pub(crate) enum Recovery {
    /// Nothing yet.
    #[default]
    None,
    /// These steps are known to break: they are not run again but answered for, each as a failed attempt.
    FailSteps(Vec<FailedStep>),
    /// Failing steps did not help either: the saga is parked with this error, and its observer is not called, because the
    /// observer may be what breaks.
    DeadLetter(Vec<String>),
}

/// A step that is known to break.
#[derive(Clone, Debug)]
pub(crate) struct FailedStep {
    side: StepSide,
    error: Vec<String>,
}

impl Recovery {
    /// The next recovery, given that this one failed at `side`; `None` when there is none left.
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

    /// The error that is given for a step which is not run again.
    pub(crate) fn error_for(&self, side: StepSide) -> Option<&[String]> {
        let Self::FailSteps(failed) = self else { return None };
        failed.iter().find(|step| step.side == side).map(|step| step.error.as_slice())
    }
}
