//! A choice whose arms are still being added to the steps of a graph.

use crate::model::{
    arms::Arm,
    graph::{ChoiceNode, Node, NodeArm},
};

/// A choice whose arms are still being added. The steps that are added until [`turn`](Self::turn) are of the arm `yes`,
/// those until [`close`](Self::close) of the arm `no`.
pub(crate) struct OpenChoice {
    at: usize,
    /// Where the arm `no` begins.
    no: usize,
}

impl OpenChoice {
    /// Adds a choice after these steps.
    pub(crate) fn begin(steps: &mut Vec<Node>, choice: Node) -> Self {
        let at = steps.len();
        steps.push(choice);
        Self { at, no: at + 1 }
    }

    /// Whether its arms have any steps yet.
    pub(crate) fn has_steps(&self, steps: &[Node]) -> bool {
        steps.len() > self.at + 1
    }

    /// Ends the arm `yes`.
    pub(crate) fn turn(&mut self, steps: &[Node]) {
        self.no = steps.len();
    }

    /// Ends the arm `no`, and with it the choice.
    pub(crate) fn close(self, steps: &mut [Node]) {
        let Self { at, no } = self;
        let end = steps.len();
        let name = steps[at].name.clone();
        let first = |first: usize, behind: usize| if first < behind { first } else { end };
        steps[at].choice = Some(ChoiceNode { yes: first(at + 1, no), no: first(no, end) });
        for (nth, node) in steps.iter_mut().enumerate().skip(at + 1) {
            let arm = if nth < no { Arm::Yes } else { Arm::No };
            node.arm.get_or_insert_with(|| NodeArm { choice: name.clone(), arm });
            if nth < no && no < end {
                lead(nth, node, no, end);
            }
        }
    }
}

/// Lets what leads from this step to `from` lead to `to`.
fn lead(at: usize, node: &mut Node, from: usize, to: usize) {
    match &mut node.choice {
        Some(ChoiceNode { yes, no }) => {
            for first in [yes, no].into_iter().filter(|first| **first == from) {
                *first = to;
            }
        }
        None if node.next.unwrap_or(at + 1) == from => node.next = Some(to),
        None => {}
    }
}
