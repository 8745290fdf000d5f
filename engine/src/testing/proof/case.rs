//! The cases of a proof: a fault at a step, and the sagas that it strikes.

use std::fmt;

/// The fault of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No fault.
    Nothing,
    /// The process dies after the action ran and before its commit: the action is repeated.
    ActionCrashesBeforeCommit,
    /// The process dies right after the action's commit.
    ActionCrashesAfterCommit,
    /// The action fails for good.
    ActionFails,
    /// The action fails every time, until its attempts are used up.
    ActionNeverWorks,
    /// The action itself, run with a start of its own, answers with a no: it fails, or is to be repeated.
    ActionSaysNo,
    /// A caller cancels while the saga is at this step.
    CancelledThere,
    /// A call took effect, but the process died with its answer; then a caller cancels. The call is undone without an
    /// output.
    AnswerIsLost,
    /// A signal that the step waits for does not come, and the time of the wait is over.
    SignalTimesOut,
    /// The signal comes before the saga has come to the step.
    SignalComesEarly,
    /// The signal comes twice, with the same key, and once more when the saga has ended.
    SignalComesTwice,
    /// The signal comes when the time of the wait is over, and once more when the saga has ended.
    SignalComesLate,
    /// When the saga looks, the signal has come and the time of the wait is over: the signal counts.
    SignalRacesTimeOut,
    /// The first step of each child of the step fails for good.
    ChildFails,
    /// Children of the step become dead jobs, and an operator retries them.
    ChildDies,
    /// Children of the step become dead jobs, and an operator discards them. What they left is the operator's, so the
    /// case asks neither [`Proof::check`](super::Proof::check) nor [`Proof::unchanged`](super::Proof::unchanged).
    ChildIsDiscarded,
    /// The process dies right after a child has ended, so that its parent does not hear of it.
    ChildEndsUnheard,
    /// While the saga is at this step, a process with the newest graph replaces the one that began with the earlier
    /// graph, which it knows beside its own: the saga goes on.
    GraphChanges,
    /// As before, and then a caller cancels: what was done with the earlier graph is undone.
    GraphChangesThenCancelled,
    /// The process that takes over does not know the earlier graph: it leaves the saga as it is, which goes on when a
    /// process comes that does.
    GraphIsUnknown,
    /// A later step fails, and the process dies after the undo ran and before its commit: the undo is repeated.
    UndoCrashesBeforeCommit,
    /// As before, but right after the undo's commit.
    UndoCrashesAfterCommit,
    /// A later step fails, and the undo fails until an operator retries the dead job.
    UndoNeedsAPerson,
}

impl Kind {
    /// Whether the fault is one of the step's undo.
    pub(super) fn is_of_undo(self) -> bool {
        matches!(self, Self::UndoCrashesBeforeCommit | Self::UndoCrashesAfterCommit | Self::UndoNeedsAPerson)
    }

    /// Whether the sagas are stopped at the step, before something happens to them.
    pub(super) fn stops(self) -> bool {
        matches!(self, Self::CancelledThere) || self.begins_earlier()
    }

    /// Whether the sagas begin with the earlier graph.
    pub(super) fn begins_earlier(self) -> bool {
        matches!(self, Self::GraphChanges | Self::GraphChangesThenCancelled | Self::GraphIsUnknown)
    }
}

/// The sagas of a case's batch that its fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Struck {
    /// All of them.
    All,
    /// One in their midst; the others complete.
    One,
}

/// One case: a fault at a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The step; empty for [`Kind::Nothing`].
    pub step: String,
    /// The fault at that step.
    pub kind: Kind,
    /// The sagas that it strikes.
    pub struck: Struck,
}

impl Case {
    pub(super) fn of(step: &str, kind: Kind) -> Self {
        Self { step: step.into(), kind, struck: Struck::All }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = match self.struck {
            Struck::All => "",
            Struck::One => " (one of the batch)",
        };
        write!(f, "{} {:?}{of}", self.step, self.kind)
    }
}
