//! Which cases a graph has, and how each has to end.

use crate::{
    model::{
        graph::{Graph, Node},
        kinds::{Placement, StepKind, UndoKind},
        status::Status,
    },
    testing::proof::{
        case::{Case, Kind, Struck},
        child_faults::Deaths,
    },
};

/// What the cases depend on besides the graph.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) graph: &'a Graph,
    /// The way that the sagas take.
    pub(super) path: &'a [usize],
    /// How many sagas a batch has.
    pub(super) batch: usize,
    /// Whether the proof can send a signal of this name.
    pub(super) has_signal: &'a dyn Fn(&str) -> bool,
}

/// All the cases at these steps.
pub(super) fn cases(scope: Scope<'_>, steps: &[usize], deaths: &dyn Fn(&Node) -> Deaths) -> Vec<Case> {
    let mut cases = Vec::new();
    for at in steps.iter().copied() {
        let node = &scope.graph.steps[at];
        let kinds = kinds_at(scope, node, &deaths(node)).into_iter().chain(kinds_of_undo(scope, at));
        for kind in kinds {
            cases.push(Case::of(&node.name, kind));
            let differs = matches!(kind, Kind::ActionFails | Kind::CancelledThere | Kind::SignalTimesOut)
                && scope.batch > 1;
            if differs && !node.kind.has_children() {
                cases.push(Case { struck: Struck::One, ..Case::of(&node.name, kind) });
            }
        }
    }
    cases
}

fn kinds_at(scope: Scope<'_>, node: &Node, deaths: &Deaths) -> Vec<Kind> {
    let mut kinds = vec![Kind::ActionCrashesBeforeCommit, Kind::ActionCrashesAfterCommit];
    if node.kind.is_wait() {
        kinds.push(Kind::CancelledThere);
        if node.signal().is_some_and(scope.has_signal) {
            kinds.extend([
                Kind::SignalTimesOut,
                Kind::SignalComesEarly,
                Kind::SignalComesTwice,
                Kind::SignalComesLate,
                Kind::SignalRacesTimeOut,
            ]);
        }
    } else if node.kind.has_children() {
        kinds.extend([Kind::CancelledThere, Kind::ChildFails]);
        if deaths.way.is_some() {
            kinds.extend([Kind::ChildDies, Kind::ChildIsDiscarded]);
        }
        if deaths.last_step.is_some() {
            kinds.push(Kind::ChildEndsUnheard);
        }
    } else if node.choice.is_some() {
        // What it decides is part of its batch's commit, and it neither fails nor waits.
    } else if node.entry {
        // An entry step is part of the commit that starts the saga: if it fails, there is no saga.
        kinds.clear();
    } else {
        kinds.extend([Kind::ActionFails, Kind::ActionNeverWorks, Kind::CancelledThere]);
        if node.kind == StepKind::Call && node.undo == UndoKind::HasUndo {
            kinds.push(Kind::AnswerIsLost);
        }
    }
    kinds
}

fn kinds_of_undo(scope: Scope<'_>, at: usize) -> Vec<Kind> {
    let node = &scope.graph.steps[at];
    if node.undo != UndoKind::HasUndo || failing_step_after(scope.graph, scope.path, at).is_none() {
        return Vec::new();
    }
    let crashes = [Kind::UndoCrashesBeforeCommit, Kind::UndoCrashesAfterCommit];
    // The undo of a step with children is that of the children.
    let person = (!node.kind.has_children()).then_some(Kind::UndoNeedsAPerson);
    crashes.into_iter().chain(person).collect()
}

/// The cases of a graph that changes while sagas are at these steps of the earlier one.
pub(super) fn changes(earlier: &Graph, path: &[usize], is_another: bool) -> Vec<Case> {
    let can_stop = |node: &&Node| (node.kind.has_action() && !node.entry) || node.kind.is_wait();
    let nodes = path.iter().map(|at| &earlier.steps[*at]).filter(can_stop);
    nodes
        .flat_map(|node| {
            let goes_back = node.placement != Placement::AfterPivot;
            let kinds = [
                Some(Kind::GraphChanges),
                goes_back.then_some(Kind::GraphChangesThenCancelled),
                is_another.then_some(Kind::GraphIsUnknown),
            ];
            kinds.into_iter().flatten().map(|kind| Case::of(&node.name, kind))
        })
        .collect()
}

/// The step of this path that is made to fail so that step `at` is undone.
pub(super) fn failing_step_after<'a>(graph: &'a Graph, path: &[usize], at: usize) -> Option<&'a str> {
    let next = action_after(graph, path, at)?;
    (next.placement != Placement::AfterPivot).then_some(next.name.as_str())
}

/// The next step of this path that has an action of its own: a wait does not fail, and neither does a choice.
pub(super) fn action_after<'a>(graph: &'a Graph, path: &[usize], at: usize) -> Option<&'a Node> {
    let mut later = path.iter().filter(|later| **later > at).map(|later| &graph.steps[*later]);
    later.find(|node| node.kind.has_action())
}

/// The status in which a saga that was struck must end; `None` if it depends on the saga's own answers.
pub(super) fn expected(graph: &Graph, case: &Case, deaths: &Deaths) -> Option<Status> {
    let node = graph.position(&case.step).map(|at| &graph.steps[at]);
    let (placement, kind) = match node {
        Some(node) => (node.placement, node.kind),
        None => (Placement::AfterPivot, StepKind::Transaction),
    };
    let is_settled = node.and_then(|node| node.children.as_ref()).is_some_and(|children| children.settled);
    let as_failed = match placement {
        Placement::AfterPivot => Status::Dead,
        Placement::BeforePivot | Placement::Pivot => Status::Compensated,
    };
    match case.kind {
        // A call pivot that never answered may have happened, so the saga needs an operator.
        Kind::ActionNeverWorks if placement == Placement::Pivot && kind == StepKind::Call => {
            Some(Status::Dead)
        }
        Kind::ActionFails | Kind::ActionNeverWorks => Some(as_failed),
        Kind::ChildDies if deaths.is_healed_to_completion() => Some(Status::Completed),
        // Every end of a child is data; what the steps behind it make of it depends.
        Kind::ChildFails | Kind::ChildDies | Kind::ChildIsDiscarded => (!is_settled).then_some(as_failed),
        Kind::CancelledThere if placement == Placement::AfterPivot => Some(Status::Completed),
        Kind::CancelledThere
        | Kind::GraphChangesThenCancelled
        | Kind::AnswerIsLost
        | Kind::UndoCrashesBeforeCommit
        | Kind::UndoCrashesAfterCommit
        | Kind::UndoNeedsAPerson => Some(Status::Compensated),
        Kind::ActionSaysNo | Kind::SignalTimesOut | Kind::SignalComesLate => None,
        Kind::Nothing
        | Kind::ActionCrashesBeforeCommit
        | Kind::ActionCrashesAfterCommit
        | Kind::SignalComesEarly
        | Kind::SignalComesTwice
        | Kind::SignalRacesTimeOut
        | Kind::ChildEndsUnheard
        | Kind::GraphChanges
        | Kind::GraphIsUnknown => Some(Status::Completed),
    }
}
