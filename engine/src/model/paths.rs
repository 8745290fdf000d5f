//! The ways through a graph: which step follows which, which steps a saga has passed, and which it can still come to.

use crate::model::{
    arms::{Arm, Arms},
    graph::{ChoiceNode, Graph},
    kinds::UndoKind,
};

impl ChoiceNode {
    /// The index of the step with which an arm begins.
    pub fn first(&self, arm: Arm) -> usize {
        match arm {
            Arm::Yes => self.yes,
            Arm::No => self.no,
        }
    }
}

impl Graph {
    /// The index of the step after this one, which is no choice; the number of steps if it is the last.
    pub fn next(&self, at: usize) -> usize {
        self.steps.get(at).and_then(|node| node.next).unwrap_or(at + 1)
    }

    /// The indices of the steps that may follow this one.
    pub(crate) fn successors(&self, at: usize) -> impl Iterator<Item = usize> + use<> {
        let ways = match self.steps.get(at).and_then(|node| node.choice) {
            Some(choice) => [Some(choice.yes), Some(choice.no)],
            None => [Some(self.next(at)), None],
        };
        let end = self.steps.len();
        ways.into_iter().flatten().filter(move |next| *next < end)
    }

    /// The indices of the steps to which a saga with these arms comes before it comes to `beyond`, in order.
    pub(crate) fn path<'a>(&'a self, arms: &'a Arms, beyond: usize) -> impl Iterator<Item = usize> + 'a {
        let mut arms = arms.iter();
        let end = beyond.min(self.steps.len());
        let mut next = Some(0);
        std::iter::from_fn(move || {
            let at = next.filter(|at| *at < end)?;
            next = match self.steps[at].choice {
                None => Some(self.next(at)),
                // Nothing lies beyond a choice that is not made yet.
                Some(choice) => arms.next().map(|arm| choice.first(arm)),
            };
            Some(at)
        })
    }

    /// The last step with an undo that a saga with these arms has passed before it came to `beyond`.
    pub(crate) fn last_undone(&self, arms: &Arms, beyond: usize) -> Option<usize> {
        self.path(arms, beyond).filter(|at| self.steps[*at].undo == UndoKind::HasUndo).last()
    }

    /// For each step, whether a saga that stands at `from` is there or can still come to it.
    fn reachable(&self, from: usize) -> Vec<bool> {
        let mut reachable = vec![false; self.steps.len()];
        if let Some(here) = reachable.get_mut(from) {
            *here = true;
        }
        // What follows a step comes after it in the list.
        for at in from..self.steps.len() {
            if reachable[at] {
                self.successors(at).for_each(|next| reachable[next] = true);
            }
        }
        reachable
    }

    /// The names of the choices.
    pub(crate) fn choices(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().filter(|node| node.choice.is_some()).map(|node| node.name.as_str())
    }

    /// Whether a step waits for this signal.
    pub(crate) fn awaits(&self, signal: &str) -> bool {
        self.signals().any(|name| name == signal)
    }

    /// Whether a saga that stands at `from` waits there for this signal, or may do so later.
    pub(crate) fn awaits_from(&self, from: usize, signal: &str) -> bool {
        // Most graphs have no signals, and most have no choices.
        self.awaits(signal)
            && self
                .reachable(from)
                .into_iter()
                .zip(&self.steps)
                .any(|(reachable, node)| reachable && node.signal() == Some(signal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sketch::{Sketch, choice, graph};

    /// `a`, then `pick` with `b` and `c` or `d`, then `e`, then `maybe` with `f`.
    fn two_choices() -> Graph {
        graph(vec![
            Sketch::Step("a"),
            choice("pick", vec![Sketch::Step("b"), Sketch::Step("c")], vec![Sketch::Step("d")]),
            Sketch::Step("e"),
            choice("maybe", vec![Sketch::Step("f")], vec![]),
        ])
    }

    fn path(graph: &Graph, arms: &str, beyond: usize) -> String {
        let arms = arms.parse().expect("they are arms");
        let names: Vec<_> = graph.path(&arms, beyond).map(|at| graph.steps[at].name.as_str()).collect();
        names.join(" ")
    }

    #[test]
    fn a_path_follows_the_arms_that_were_taken() {
        let graph = two_choices();
        let all = usize::MAX;
        assert_eq!(path(&graph, "yy", all), "a pick b c e maybe f");
        assert_eq!(path(&graph, "ny", all), "a pick d e maybe f");
        assert_eq!(path(&graph, "nn", all), "a pick d e maybe");
        assert_eq!(path(&graph, "n", all), "a pick d e maybe", "the second choice is not made yet");
        assert_eq!(path(&graph, "", all), "a pick");
        let e = graph.position("e").expect("it is there");
        assert_eq!((path(&graph, "y", e), path(&graph, "n", e)), ("a pick b c".into(), "a pick d".into()));
    }

    #[test]
    fn an_inner_choice_at_the_end_of_an_arm_leads_behind_the_outer_one() {
        let inner = choice("inner", vec![Sketch::Step("b")], vec![]);
        let graph = graph(vec![
            choice("outer", vec![Sketch::Step("a"), inner], vec![Sketch::Step("c")]),
            Sketch::Step("d"),
        ]);
        assert_eq!(path(&graph, "yy", usize::MAX), "outer a inner b d");
        assert_eq!(path(&graph, "yn", usize::MAX), "outer a inner d");
        assert_eq!(path(&graph, "n", usize::MAX), "outer c d");
    }

    #[test]
    fn the_steps_of_the_other_arm_are_not_reachable() {
        let graph = two_choices();
        let from = |step: &str| {
            let reachable = graph.reachable(graph.position(step).expect("it is there"));
            let names = graph.steps.iter().zip(reachable).filter(|(_, reachable)| *reachable);
            names.map(|(node, _)| node.name.as_str()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(from("b"), "b c e maybe f");
        assert_eq!(from("pick"), "pick b c d e maybe f");
        assert_eq!(from("maybe"), "maybe f");
    }
}
