//! The cases of a proof: which fault at which step, and the expected status.

use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::model::{
    graph::Graph,
    ids::SagaId,
    kinds::{Placement, StepKind, UndoKind},
    outcome::Failure,
    status::{Direction, Status},
};
use crate::support::faults::{Fault, FaultPoint, Faults};

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
    /// A caller cancels while the saga is at this step.
    CancelledThere,
    /// A signal that the step waits for does not come, and the time of the wait is over.
    SignalTimesOut,
    /// The signal comes before the saga has come to the step.
    SignalComesEarly,
    /// The signal comes twice, with the same key.
    SignalComesTwice,
    /// The action itself, run with a start of its own, answers with a no: it fails, or is to be repeated.
    ActionSaysNo,
    /// The first step of each child of the step fails for good.
    ChildFails,
    /// A later step fails, and the process dies after the undo ran and before its commit: the undo is repeated.
    UndoCrashesBeforeCommit,
    /// As before, but right after the undo's commit.
    UndoCrashesAfterCommit,
    /// A later step fails, and the undo fails until an operator retries the dead job.
    UndoNeedsAPerson,
}

/// One case: a fault at a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The step; empty for [`Kind::Nothing`].
    pub step: String,
    /// The fault at that step.
    pub kind: Kind,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.step, self.kind)
    }
}

/// All the cases at these steps of a graph, for a saga that takes this path.
pub(super) fn cases(graph: &Graph, path: &[usize], steps: &[usize]) -> Vec<Case> {
    let mut cases = Vec::new();
    for at in steps.iter().copied() {
        let node = &graph.steps[at];
        let mut add = |kind| cases.push(Case { step: node.name.clone(), kind });
        // An entry step is part of the commit that starts the saga: if it fails, there is no saga.
        if node.kind.is_wait() {
            for kind in
                [Kind::ActionCrashesBeforeCommit, Kind::ActionCrashesAfterCommit, Kind::CancelledThere]
            {
                add(kind);
            }
            if node.kind == StepKind::Signal {
                for kind in [Kind::SignalTimesOut, Kind::SignalComesEarly, Kind::SignalComesTwice] {
                    add(kind);
                }
            }
        } else if node.kind.has_children() {
            for kind in [Kind::ActionCrashesBeforeCommit, Kind::ActionCrashesAfterCommit, Kind::ChildFails] {
                add(kind);
            }
        } else if node.choice.is_some() {
            // What it decides is part of its batch's commit, and it neither fails nor waits.
            for kind in [Kind::ActionCrashesBeforeCommit, Kind::ActionCrashesAfterCommit] {
                add(kind);
            }
        } else if !node.entry {
            for kind in [
                Kind::ActionCrashesBeforeCommit,
                Kind::ActionCrashesAfterCommit,
                Kind::ActionFails,
                Kind::ActionNeverWorks,
                Kind::CancelledThere,
            ] {
                add(kind);
            }
        }
        if node.undo == UndoKind::HasUndo && failing_step_after(graph, path, at).is_some() {
            add(Kind::UndoCrashesBeforeCommit);
            add(Kind::UndoCrashesAfterCommit);
            // The undo of a step with children is that of the children.
            if !node.kind.has_children() {
                add(Kind::UndoNeedsAPerson);
            }
        }
    }
    cases
}

/// The step of this path that is made to fail so that step `at` is undone.
pub(super) fn failing_step_after<'a>(graph: &'a Graph, path: &[usize], at: usize) -> Option<&'a str> {
    // A wait does not fail, and neither does a choice.
    let mut later = path.iter().filter(|later| **later > at).map(|later| &graph.steps[*later]);
    let next = later.find(|node| node.kind.has_action())?;
    (next.placement != Placement::AfterPivot).then_some(next.name.as_str())
}

/// The status in which the saga must end; `None` if it depends on the saga's own answers.
pub(super) fn expected(graph: &Graph, case: &Case) -> Option<Status> {
    let node = graph.position(&case.step).map(|at| &graph.steps[at]);
    let (placement, kind) = match node {
        Some(node) => (node.placement, node.kind),
        None => (Placement::AfterPivot, StepKind::Transaction),
    };
    let is_settled = node.and_then(|node| node.children.as_ref()).is_some_and(|children| children.settled);
    let status = match (case.kind, placement) {
        // A call pivot that never answered may have happened, so the saga needs an operator.
        (Kind::ActionNeverWorks, Placement::Pivot) if kind == StepKind::Call => Status::Dead,
        // Every end of a child is data; what the steps behind it make of it depends.
        (Kind::ChildFails, _) if is_settled => return None,
        (Kind::ActionFails | Kind::ActionNeverWorks | Kind::ChildFails, Placement::AfterPivot) => {
            Status::Dead
        }
        (
            Kind::ActionFails | Kind::ActionNeverWorks | Kind::ChildFails | Kind::CancelledThere,
            Placement::BeforePivot | Placement::Pivot,
        )
        | (Kind::UndoCrashesBeforeCommit | Kind::UndoCrashesAfterCommit | Kind::UndoNeedsAPerson, _) => {
            Status::Compensated
        }
        (Kind::ActionSaysNo | Kind::SignalTimesOut, _) => return None,
        (
            Kind::Nothing
            | Kind::ActionCrashesBeforeCommit
            | Kind::ActionCrashesAfterCommit
            | Kind::SignalComesEarly
            | Kind::SignalComesTwice,
            _,
        )
        | (Kind::CancelledThere, Placement::AfterPivot) => Status::Completed,
    };
    Some(status)
}

/// Injects the fault of one case into the saga that it is about.
#[derive(Debug)]
pub(super) struct CaseFaults {
    pub(super) saga_id: SagaId,
    pub(super) case: Case,
    pub(super) failing: Option<String>,
    /// The steps of other sagas that fail: their definitions and names.
    pub(super) failing_children: Vec<(String, String)>,
    pub(super) spent: AtomicBool,
    /// The steps that left rows behind.
    pub(super) leftovers: Mutex<Vec<String>>,
}

impl CaseFaults {
    pub(super) fn new(saga_id: SagaId, case: &Case, failing: Option<&str>) -> Self {
        Self {
            saga_id,
            case: case.clone(),
            failing: failing.map(str::to_owned),
            failing_children: Vec::new(),
            spent: AtomicBool::new(false),
            leftovers: Mutex::default(),
        }
    }

    /// A sentence for every step that wrote rows and then said no.
    pub(super) fn take_leftovers(&self) -> Vec<String> {
        std::mem::take(&mut self.leftovers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn once(&self, fault: Fault) -> Option<Fault> {
        (!self.spent.swap(true, Ordering::AcqRel)).then_some(fault)
    }
}

impl Faults for CaseFaults {
    fn looks_for_leftovers(&self) -> bool {
        true
    }

    fn left_behind(&self, _: SagaId, point: &FaultPoint) {
        let FaultPoint { definition, step, direction } = point;
        let sentence =
            format!("the {direction} of `{step}` of `{definition}` left rows behind, and then said no");
        self.leftovers.lock().unwrap_or_else(PoisonError::into_inner).push(sentence);
    }

    fn at(&self, saga_id: SagaId, point: &FaultPoint, _: u32) -> Option<Fault> {
        if saga_id != self.saga_id {
            let is_to_fail = point.direction == Direction::Action
                && self
                    .failing_children
                    .iter()
                    .any(|(definition, step)| (definition, step) == (&point.definition, &point.step));
            return is_to_fail.then(|| {
                self.spent.store(true, Ordering::Release);
                Fault::Fail(Failure::new("made-to-fail", "a test made this child fail"))
            });
        }
        let action = point.direction == Direction::Action;
        if action && self.failing.as_deref() == Some(point.step.as_str()) {
            return Some(Fault::Fail(Failure::new("made-to-fail", "a test made this step fail")));
        }
        if point.step != self.case.step {
            return None;
        }
        match (self.case.kind, action) {
            (Kind::ActionCrashesBeforeCommit, true) | (Kind::UndoCrashesBeforeCommit, false) => {
                self.once(Fault::CrashBeforeCommit)
            }
            (Kind::ActionCrashesAfterCommit, true) | (Kind::UndoCrashesAfterCommit, false) => {
                self.once(Fault::CrashAfterCommit)
            }
            (Kind::ActionFails, true) => {
                Some(Fault::Fail(Failure::new("made-to-fail", "a test made this step fail")))
            }
            (Kind::ActionNeverWorks, true) => {
                Some(Fault::Retry("a test keeps this step from working".into()))
            }
            (Kind::CancelledThere, true) if !self.spent.load(Ordering::Acquire) => {
                Some(Fault::Hold(Duration::from_hours(1)))
            }
            (Kind::UndoNeedsAPerson, false) if !self.spent.load(Ordering::Acquire) => {
                Some(Fault::Retry("a test keeps this undo from working".into()))
            }
            _ => None,
        }
    }
}
