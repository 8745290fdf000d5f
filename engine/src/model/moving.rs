//! Decides whether a saga in progress can go on with another graph than the one with which it was started.

use crate::model::{
    graph::{Graph, Node},
    kinds::{Placement, UndoKind},
    status::Status,
    transition::State,
};

/// Checks that a saga in this state can be moved from one graph to another: what it has done, and the step at which it stands,
/// have to be the same in both. The steps after that may differ.
///
/// # Errors
/// Why it can't.
pub(crate) fn check(from: &Graph, to: &Graph, state: &State) -> Result<(), String> {
    if state.status != Status::Running {
        return Err(format!("it is {}, and only running sagas can be moved", state.status));
    }
    if state.in_doubt {
        let at = from.steps.get(state.step_index);
        let has_children = at.is_some_and(|node| node.kind.has_children());
        let why = if has_children {
            "it has open children"
        } else {
            "the call at which it stands may have been made"
        };
        return Err(why.into());
    }
    if state.step_index >= from.steps.len() {
        return Err("its own graph does not have the step at which it stands".into());
    }
    let begun = from.path(&state.arms, state.step_index + 1).map(|at| &from.steps[at]);
    let mut others = to.path(&state.arms, usize::MAX).map(|at| &to.steps[at]);
    match begun.enumerate().find_map(|(nth, node)| difference(node, others.next(), nth)) {
        Some(difference) => Err(difference),
        None => Ok(()),
    }
}

fn difference(node: &Node, other: Option<&Node>, nth: usize) -> Option<String> {
    let (name, place) = (&node.name, nth + 1);
    let Some(other) = other.filter(|other| other.name == *name) else {
        let instead = other.map_or_else(|| "no step".into(), |other| format!("`{}`", other.name));
        return Some(format!("step {place} is `{name}`, and the other graph has {instead} there"));
    };
    let differs = if node.kind != other.kind {
        "is of another kind in the other graph"
    } else if node.signal() != other.signal() {
        "waits for another signal in the other graph"
    } else if node.children != other.children {
        "has other children in the other graph"
    } else if node.arm != other.arm {
        "is in another arm in the other graph"
    } else if node.entry != other.entry {
        "is an entry step in only one of the graphs"
    } else if node.placement != other.placement {
        match (node.placement, other.placement) {
            (Placement::Pivot, _) | (_, Placement::Pivot) => "is the pivot of only one of the graphs",
            (Placement::BeforePivot | Placement::AfterPivot, _) => {
                "is before the pivot in one graph and after it in the other"
            }
        }
    } else if (node.undo == UndoKind::HasUndo) != (other.undo == UndoKind::HasUndo) {
        "has an undo in only one of the graphs"
    } else {
        return None;
    };
    Some(format!("step {place}, `{name}`, {differs}"))
}
