//! Trees of sagas: the topmost one, its children, and theirs.

use serde::Serialize;

use crate::model::views::SagaView;

/// A tree of sagas, however large: its descendants are counted.
#[derive(Clone, Debug, Serialize)]
pub struct SagaTree {
    /// The topmost saga.
    pub root: SagaView,
    /// The descendants, by the steps that started them: those nearer to the root first.
    pub steps: Vec<TreeStep>,
    /// The descendants that need somebody: at most [`SagaTree::MOST_IN_NEED`]. First those that are dead and that
    /// nobody has given up, then those that wait for a process of another version, those that compensate or have
    /// compensated for a reason of their own, and those that were given up.
    pub in_need: Vec<SagaView>,
}

impl SagaTree {
    /// How many descendants are named.
    pub const MOST_IN_NEED: u32 = 20;
}

/// How far the sagas of a tree are that the same step started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TreeStep {
    /// How many ancestors they have.
    pub depth: u16,
    /// The definition of their parents.
    pub parent_definition: String,
    /// The step of their parents.
    pub step: String,
    /// Their own definition.
    pub definition: String,
    /// How many run.
    pub running: i64,
    /// How many compensate.
    pub compensating: i64,
    /// How many are dead, and nobody has given them up.
    pub dead: i64,
    /// How many have completed.
    pub completed: i64,
    /// How many have compensated, or were refused by their entry step.
    pub compensated: i64,
    /// How many died and were given up.
    pub given_up: i64,
    /// How many of those that have not ended wait for a process that knows their graph.
    pub wait_for_version: i64,
}
