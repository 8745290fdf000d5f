//! The checked graph of a saga: names, order, pivot, undos and retry policies, without the code.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{
    arms::Arm,
    error::GraphError,
    kinds::{Placement, StepKind, UndoKind},
    retry::RetryPolicy,
    status::Direction,
};

/// One step of a [`Graph`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// The step's stored name.
    pub name: String,
    /// Whether the step is a transaction, a call, a wait or a choice.
    pub kind: StepKind,
    /// Whether the step runs in the commit that starts the saga.
    pub entry: bool,
    /// Whether the step is before, at or after the pivot.
    pub placement: Placement,
    /// Whether and how the step is undone.
    pub undo: UndoKind,
    /// The steps directly before this one; empty for the first. Behind a choice they are the last ones of both arms, and the
    /// choice itself stands for an arm without steps.
    pub after: Vec<String>,
    /// What the step reads: `input`, or names of earlier steps.
    pub reads: Vec<String>,
    /// The retry policy of the action.
    pub retry: RetryPolicy,
    /// The retry policy of the undo.
    pub undo_retry: RetryPolicy,
    /// What the step waits for; `None` for all but sleeps and signals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<WaitNode>,
    /// The sagas that the step starts and waits for; `None` for all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub children: Option<ChildrenNode>,
    /// Where the arms of a choice begin; `None` for all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choice: Option<ChoiceNode>,
    /// The arm of a choice that the step is in; of nested ones the innermost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arm: Option<NodeArm>,
    /// The index of the step that follows, if it is not the next of the list: the step ends an arm that others follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<usize>,
}

/// The sagas that a step of a [`Graph`] starts and waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildrenNode {
    /// The names of their definitions: for a `for_each` one, for all others one a child, in order.
    pub definitions: Vec<String>,
    /// How many are open at a time, if there is one for each item.
    pub at_most: Option<u32>,
    /// Whether every end of a child is data. Otherwise the first that does not complete fails the step.
    pub settled: bool,
}

/// Where the arms of a choice begin. An arm without steps begins where both end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChoiceNode {
    /// The index of the step that follows if the predicate says yes.
    pub yes: usize,
    /// The index of the step that follows if it says no.
    pub no: usize,
}

/// The arm that a step is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeArm {
    /// The name of the choice.
    pub choice: String,
    /// Which of its arms.
    pub arm: Arm,
}

/// What a step of a [`Graph`] waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WaitNode {
    /// How long the step waits at most; `None` if that is computed from what the saga has stored.
    pub longest: Option<Duration>,
    /// The name of the signal that ends the wait; `None` for a sleep.
    pub signal: Option<String>,
    /// Whether signals from before the wait don't count.
    pub only_new: bool,
    /// The JSON Schema (draft 2020-12) of the signal's message.
    pub message_schema: Option<serde_json::Value>,
}

impl Node {
    /// The signal for which the step waits.
    pub fn signal(&self) -> Option<&str> {
        self.wait.as_ref()?.signal.as_deref()
    }
}

impl WaitNode {
    /// The longest wait that a graph may have. A longer one would be a wait without an end.
    pub const LONGEST: Duration = Duration::from_hours(10 * 365 * 24);
}

/// The checked graph of one saga.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Graph {
    /// The saga's stored name.
    pub name: String,
    /// A number that its author raises when sagas in progress can't go on with the new code although the steps look the
    /// same; zero at first.
    pub revision: u32,
    /// The queue in which the saga's work waits.
    pub queue: String,
    /// The longest time until the saga passes its pivot.
    pub deadline: Option<Duration>,
    /// The steps in order. The steps of a choice's arms stand behind it, those of the arm `yes` first.
    pub steps: Vec<Node>,
    /// `g1:` and a hash of what a saga in progress depends on: the definition's name and revision, and of each step the
    /// name, kind, entry, placement and undo, the signal for which it waits, its children and the arm that it is in, in order. Graphs with
    /// the same hash can continue each other's sagas.
    pub hash: String,
}

/// Stands for a graph that is not stored, or in a form that this engine can't read.
pub(crate) static UNKNOWN_GRAPH: Graph = Graph {
    name: String::new(),
    revision: 0,
    queue: String::new(),
    deadline: None,
    steps: Vec::new(),
    hash: String::new(),
};

impl Graph {
    pub(crate) fn new(
        name: &str,
        revision: u32,
        queue: &str,
        deadline: Option<Duration>,
        steps: Vec<Node>,
    ) -> Result<Self, GraphError> {
        let mut graph =
            Self { name: name.into(), revision, queue: queue.into(), deadline, steps, hash: String::new() };
        graph.check()?;
        graph.name_predecessors();
        graph.hash = graph.shape_hash();
        Ok(graph)
    }

    /// Finds a step by its stored name.
    pub fn position(&self, step: &str) -> Option<usize> {
        self.steps.iter().position(|node| node.name == step)
    }

    /// The retry policy of one side of a step; for a step that is not in the graph, that of a call.
    pub(crate) fn policy(&self, at: usize, direction: Direction) -> RetryPolicy {
        match (self.steps.get(at), direction) {
            (Some(node), Direction::Action) => node.retry,
            (Some(node), Direction::Undo) => node.undo_retry,
            (None, _) => RetryPolicy::CALL,
        }
    }

    /// The index of the pivot.
    pub fn pivot(&self) -> Option<usize> {
        self.steps.iter().position(|node| node.placement == Placement::Pivot)
    }

    /// The names of the signals for which steps wait, in the order of the steps.
    pub fn signals(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().filter_map(|node| node.wait.as_ref()?.signal.as_deref())
    }

    /// Whether the step of this name only waits.
    pub(crate) fn is_wait(&self, step: &str) -> bool {
        self.steps.iter().any(|node| node.kind.is_wait() && node.name == step)
    }

    /// Checks that no wait is longer than all waits may be, and that those before the pivot fit into this deadline,
    /// whichever arms a saga takes.
    pub(crate) fn check_waits(&self, deadline: Option<Duration>) -> Result<(), GraphError> {
        // The sleeps on the longest way to each step.
        let mut slept = vec![Duration::ZERO; self.steps.len()];
        for (at, node) in self.steps.iter().enumerate() {
            let before = slept[at];
            let sleeps = node.wait.as_ref().filter(|_| node.kind == StepKind::Sleep);
            // Waits that are too long for a sum are refused below.
            let after = before.saturating_add(sleeps.and_then(|wait| wait.longest).unwrap_or_default());
            for next in self.successors(at) {
                slept[next] = slept[next].max(after);
            }
            let Some(wait) = node.wait.as_ref().and_then(|wait| wait.longest) else { continue };
            let (saga, step) = (self.name.clone(), node.name.clone());
            if wait > WaitNode::LONGEST {
                return Err(GraphError::EndlessWait { saga, step });
            }
            let Some(deadline) = deadline.filter(|_| node.placement != Placement::AfterPivot) else {
                continue;
            };
            if before.saturating_add(wait) >= deadline {
                return Err(GraphError::WaitBeyondDeadline { saga, step, deadline });
            }
        }
        Ok(())
    }

    fn name_predecessors(&mut self) {
        for at in 0..self.steps.len() {
            let name = self.steps[at].name.clone();
            for next in self.successors(at) {
                self.steps[next].after.push(name.clone());
            }
        }
    }

    fn check(&self) -> Result<(), GraphError> {
        let names = [&self.name, &self.queue].into_iter().chain(self.steps.iter().map(|node| &node.name));
        for name in names.map(String::as_str).chain(self.signals()) {
            check_name(name)?;
        }
        if self.steps.is_empty() {
            return Err(GraphError::Empty(self.name.clone()));
        }
        for (index, node) in self.steps.iter().enumerate() {
            let (saga, step) = (self.name.clone(), node.name.clone());
            if self.steps[..index].iter().any(|earlier| earlier.name == step) {
                return Err(GraphError::NameTwice { saga, step });
            }
            for policy in [&node.retry, &node.undo_retry] {
                policy.check(node.kind).map_err(|reason| GraphError::BadPolicy {
                    saga: saga.clone(),
                    step: step.clone(),
                    reason,
                })?;
            }
            match (node.placement, node.undo) {
                (Placement::BeforePivot, UndoKind::ForwardOnly) => {
                    return Err(GraphError::UndoUndecided { saga, step });
                }
                (Placement::Pivot, UndoKind::HasUndo) => {
                    return Err(GraphError::UndoNeverRuns { saga, step, place: "is the pivot" });
                }
                (Placement::AfterPivot, UndoKind::HasUndo) => {
                    return Err(GraphError::UndoNeverRuns { saga, step, place: "is after the pivot" });
                }
                (Placement::BeforePivot, UndoKind::HasUndo | UndoKind::NothingToUndo)
                | (
                    Placement::Pivot | Placement::AfterPivot,
                    UndoKind::NothingToUndo | UndoKind::ForwardOnly,
                ) => {}
            }
        }
        self.check_waits(self.deadline)
    }

    /// FNV-1a (Fowler, Noll, Vo), 64 bits: stable over releases and platforms, which `std`'s hasher is not. It covers
    /// words that are written out here, so that renaming a variant does not change the hash.
    fn shape_hash(&self) -> String {
        let mut words = format!("saga {} revision {};", self.name, self.revision);
        for node in &self.steps {
            let kind = match node.kind {
                StepKind::Transaction => "transaction",
                StepKind::Call => "call",
                StepKind::Sleep => "sleep",
                StepKind::Signal => "signal",
                StepKind::Choice => "choice",
                StepKind::Child => "child",
                StepKind::Parallel => "parallel",
                StepKind::ForEach => "for-each",
            };
            let entry = if node.entry { "entry" } else { "step" };
            let placement = match node.placement {
                Placement::BeforePivot => "before-pivot",
                Placement::Pivot => "pivot",
                Placement::AfterPivot => "after-pivot",
            };
            let undo = match node.undo {
                UndoKind::HasUndo => "undo",
                UndoKind::NothingToUndo | UndoKind::ForwardOnly => "no-undo",
            };
            words.extend([entry, " ", &node.name, " ", kind, " ", placement, " ", undo]);
            if let Some(signal) = node.signal() {
                words.extend([" for ", signal]);
            }
            if let Some(ChildrenNode { definitions, settled, .. }) = &node.children {
                words.extend([" of ", &definitions.join(" "), if *settled { " settled" } else { "" }]);
            }
            if let Some(NodeArm { choice, arm }) = &node.arm {
                let arm = match arm {
                    Arm::Yes => "yes",
                    Arm::No => "no",
                };
                words.extend([" in ", choice, " ", arm]);
            }
            words.push(';');
        }
        let hash = words.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        format!("g1:{hash:016x}")
    }
}

fn check_name(name: &str) -> Result<(), GraphError> {
    let kebab = !name.is_empty()
        && name.len() <= 64
        && name.split('-').all(|word| {
            !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        });
    if kebab { Ok(()) } else { Err(GraphError::BadName(name.into())) }
}
