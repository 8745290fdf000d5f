//! How the children of a step can be made to fail, to die and to end unheard.

use crate::{
    definition::saga::Definition,
    model::{
        graph::{Graph, Node},
        kinds::{Placement, UndoKind},
        status::Direction,
    },
    testing::proof::case::Kind,
};

/// What happens to a child at one side of one of its steps.
#[derive(Clone, Debug)]
pub(super) struct ChildFault {
    pub(super) definition: String,
    pub(super) step: String,
    pub(super) direction: Direction,
    pub(super) effect: ChildEffect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChildEffect {
    /// It fails for good.
    Fails,
    /// It fails for good until an operator has retried a dead job.
    FailsUntilHealed,
    /// It does not work until an operator has retried a dead job.
    StuckUntilHealed,
    /// It is held until the outside has done what it waits for.
    Held,
    /// The process dies right after its commit, once.
    CrashesAfterCommit,
}

/// How children of a step can die and end, as far as their graphs admit it.
#[derive(Clone, Debug, Default)]
pub(super) struct Deaths {
    pub(super) way: Option<WayToDie>,
    /// The definition of a child, and the last step of its action.
    pub(super) last_step: Option<(String, String)>,
}

/// How the children of one definition die.
#[derive(Clone, Debug)]
pub(super) enum WayToDie {
    /// A step behind the pivot fails; retried, the child completes.
    BehindPivot { definition: String, step: String },
    /// A step fails, and the undo of one before it does not work; retried, the child is compensated.
    InUndo { definition: String, fails: String, stuck: String },
}

impl Deaths {
    /// The first way among these definitions of children.
    pub(super) fn of(definitions: &[Definition], node: &Node) -> Self {
        let graphs: Vec<&Graph> = children_of(definitions, node).collect();
        Self {
            way: graphs.iter().find_map(|graph| way_to_die(graph)),
            last_step: graphs.iter().find_map(|graph| {
                let last = graph.steps.last().filter(|node| is_simple(node))?;
                Some((graph.name.clone(), last.name.clone()))
            }),
        }
    }

    pub(super) fn is_healed_to_completion(&self) -> bool {
        matches!(self.way, Some(WayToDie::BehindPivot { .. }))
    }
}

/// The faults of the children of a step in a case of this kind.
pub(super) fn child_faults(definitions: &[Definition], node: &Node, kind: Kind) -> Vec<ChildFault> {
    let deaths = Deaths::of(definitions, node);
    let at_first_steps = |effect| {
        let firsts = children_of(definitions, node).filter_map(move |graph| {
            let first = graph.steps.iter().find(|node| node.kind.has_action() && !node.entry)?;
            Some(fault(&graph.name, &first.name, effect))
        });
        firsts.collect()
    };
    match (kind, deaths.way) {
        (Kind::ChildFails, _) => at_first_steps(ChildEffect::Fails),
        (Kind::CancelledThere, _) => at_first_steps(ChildEffect::Held),
        (Kind::ChildDies | Kind::ChildIsDiscarded, Some(WayToDie::BehindPivot { definition, step })) => {
            vec![fault(&definition, &step, ChildEffect::FailsUntilHealed)]
        }
        (Kind::ChildDies | Kind::ChildIsDiscarded, Some(WayToDie::InUndo { definition, fails, stuck })) => {
            let stuck = fault(&definition, &stuck, ChildEffect::StuckUntilHealed);
            vec![
                fault(&definition, &fails, ChildEffect::Fails),
                ChildFault { direction: Direction::Undo, ..stuck },
            ]
        }
        (Kind::ChildEndsUnheard, _) => {
            let last = deaths.last_step.iter();
            last.map(|(definition, step)| fault(definition, step, ChildEffect::CrashesAfterCommit)).collect()
        }
        _ => Vec::new(),
    }
}

fn fault(definition: &str, step: &str, effect: ChildEffect) -> ChildFault {
    ChildFault { definition: definition.into(), step: step.into(), direction: Direction::Action, effect }
}

fn children_of<'a>(definitions: &'a [Definition], node: &'a Node) -> impl Iterator<Item = &'a Graph> {
    let names = node.children.iter().flat_map(|children| &children.definitions);
    names.filter_map(|name| definitions.iter().map(Definition::graph).find(|graph| graph.name == *name))
}

/// Whether every saga of the graph comes to this step, and its action can be replaced.
fn is_simple(node: &Node) -> bool {
    node.kind.has_action() && !node.entry && node.arm.is_none()
}

fn way_to_die(graph: &Graph) -> Option<WayToDie> {
    let definition = graph.name.clone();
    let mut simple = graph.steps.iter().filter(|node| is_simple(node));
    if let Some(node) = simple.clone().find(|node| node.placement == Placement::AfterPivot) {
        return Some(WayToDie::BehindPivot { definition, step: node.name.clone() });
    }
    let stuck = simple.find(|node| node.undo == UndoKind::HasUndo)?;
    let fails = simple.find(|node| node.placement != Placement::AfterPivot)?;
    Some(WayToDie::InUndo { definition, fails: fails.name.clone(), stuck: stuck.name.clone() })
}
