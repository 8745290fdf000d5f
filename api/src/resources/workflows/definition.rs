//! The JSON of definitions: their graphs and their input schemas.

use chrono::{DateTime, Utc};
use engine::{Definition, GraphProcess, KnownGraph, RetryPolicy, UndoKind};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use super::enums::{ChoiceArm, StepKind, StepPlacement, StepUndo};
use crate::resources::page::list;

/// A definition: the steps of a saga.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkflowDefinition {
    pub(crate) name: String,
    /// The queue of its work.
    pub(crate) queue: String,
    /// How long a workflow may take to pass its point of no return, in milliseconds.
    pub(crate) deadline_ms: Option<u64>,
    /// A hash over names, kinds, order, pivot and undos of the steps. A workflow keeps the hash with which it was
    /// started.
    pub(crate) graph_hash: String,
    /// The steps, in order.
    pub(crate) steps: Vec<WorkflowStep>,
    /// The JSON schema (draft 2020-12) of the input.
    #[schema(value_type = Object)]
    pub(crate) input_schema: Value,
}

/// A definition with the graphs that it has or had.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkflowDefinitionWithGraphs {
    #[serde(flatten)]
    pub(crate) definition: WorkflowDefinition,
    /// The graphs that any process has told of under this name, at most fifty, the newest first.
    pub(crate) graphs: Vec<WorkflowGraph>,
}

/// A graph of a definition: a workflow belongs to the one with which it was started.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkflowGraph {
    pub(crate) graph_hash: String,
    /// When a process first told of it.
    pub(crate) first_seen_at: DateTime<Utc>,
    /// How many of its workflows have not ended: they run, compensate, or are dead and not given up.
    pub(crate) workflows: i64,
    /// How many live processes know it.
    pub(crate) known_by: i64,
    /// The first of them, at most twenty.
    pub(crate) processes: Vec<WorkflowProcess>,
}

/// A live process that knows a graph.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkflowProcess {
    /// Its id, which histories name as the worker.
    pub(crate) worker: Uuid,
    pub(crate) host: String,
    /// Its process id on that host.
    pub(crate) pid: i32,
    /// What it does, such as `serve` or `work`.
    pub(crate) role: String,
    pub(crate) version: String,
    /// Whether it works on queues, and so moves workflows on.
    pub(crate) works: bool,
}

impl From<KnownGraph> for WorkflowGraph {
    fn from(KnownGraph { hash, first_seen_at, sagas, known_by, processes }: KnownGraph) -> Self {
        let process = |GraphProcess { id, host, pid, role, version, works }| WorkflowProcess {
            worker: id.0,
            host,
            pid,
            role,
            version,
            works,
        };
        Self {
            graph_hash: hash,
            first_seen_at,
            workflows: sagas,
            known_by,
            processes: processes.into_iter().map(process).collect(),
        }
    }
}

list!(WorkflowDefinitionList of WorkflowDefinition, "All definitions, by name.", "Always `null`: the list has no pages.");

/// One step of a definition.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkflowStep {
    pub(crate) name: String,
    #[schema(value_type = StepKind)]
    pub(crate) kind: engine::StepKind,
    /// Whether the step runs in the transaction that starts the workflow.
    pub(crate) entry: bool,
    #[schema(value_type = StepPlacement)]
    pub(crate) placement: engine::Placement,
    #[schema(value_type = StepUndo)]
    pub(crate) undo: engine::UndoKind,
    /// The steps directly before this one. Behind a choice they are the last steps of its arms, and the choice itself
    /// if one of them has no steps.
    pub(crate) after: Vec<String>,
    /// What the step reads: `input`, or the names of earlier steps.
    pub(crate) reads: Vec<String>,
    /// The retry policy of the action.
    pub(crate) retry: StepRetryPolicy,
    /// The retry policy of the undo; `null` if there is none.
    pub(crate) undo_retry: Option<StepRetryPolicy>,
    /// What the step waits for; `null` for all but those that wait.
    pub(crate) wait: Option<StepWait>,
    /// The workflows that the step starts and waits for; `null` for all but those with children.
    pub(crate) children: Option<StepChildren>,
    /// The arm of a choice that the step is in; of nested ones the innermost. `null` for steps to which every workflow
    /// comes.
    pub(crate) arm: Option<StepArm>,
}

/// The workflows that a step starts and waits for.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StepChildren {
    /// The names of their definitions: for a `for_each` one, for all others one a child, in order.
    pub(crate) definitions: Vec<String>,
    /// How many are open at a time, if there is one for each item.
    pub(crate) at_most: Option<u32>,
    /// Whether every end of a child is data. Otherwise the first that does not complete fails the step.
    pub(crate) settled: bool,
}

/// The arm of a choice that a step is in.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StepArm {
    /// The name of the choice, a step of the same definition.
    #[schema(example = "is-large")]
    pub(crate) choice: String,
    #[schema(value_type = ChoiceArm)]
    pub(crate) arm: engine::Arm,
}

/// What a step waits for.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StepWait {
    /// How long at most, in milliseconds; `null` if that is computed from what the workflow has stored.
    pub(crate) longest_ms: Option<u64>,
    /// The name of the signal that ends the wait; `null` for a sleep.
    #[schema(example = "payment-received")]
    pub(crate) signal: Option<String>,
    /// Whether signals from before the wait don't count.
    pub(crate) only_new: bool,
    /// The JSON schema (draft 2020-12) of the signal's message; `null` for a sleep.
    #[schema(value_type = Value)]
    pub(crate) message_schema: Option<Value>,
}

/// A retry policy: exponential backoff with full jitter.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StepRetryPolicy {
    /// The number of attempts in all.
    pub(crate) attempts: u32,
    /// The longest wait after the first attempt, in milliseconds.
    pub(crate) first_delay_ms: u64,
    /// The factor by which the longest wait grows with each further attempt.
    pub(crate) factor: f64,
    /// The longest wait of all, in milliseconds.
    pub(crate) max_delay_ms: u64,
    /// How long one attempt may take, in milliseconds.
    pub(crate) timeout_ms: u64,
    /// For how long the step may be put off without an attempt, in milliseconds.
    pub(crate) max_postponed_ms: u64,
}

impl From<&Definition> for WorkflowDefinition {
    fn from(definition: &Definition) -> Self {
        let graph = definition.graph();
        Self {
            name: graph.name.clone(),
            queue: graph.queue.clone(),
            deadline_ms: graph.deadline.map(millis),
            graph_hash: graph.hash.clone(),
            steps: graph.steps.iter().map(step).collect(),
            input_schema: definition.input_schema().clone(),
        }
    }
}

fn step(node: &engine::Node) -> WorkflowStep {
    WorkflowStep {
        name: node.name.clone(),
        kind: node.kind,
        entry: node.entry,
        placement: node.placement,
        undo: node.undo,
        after: node.after.clone(),
        reads: node.reads.clone(),
        retry: retry(&node.retry),
        undo_retry: (node.undo == UndoKind::HasUndo).then(|| retry(&node.undo_retry)),
        wait: node.wait.as_ref().map(|wait| StepWait {
            longest_ms: wait.longest.map(millis),
            signal: wait.signal.clone(),
            only_new: wait.only_new,
            message_schema: wait.message_schema.clone(),
        }),
        children: node.children.as_ref().map(|children| StepChildren {
            definitions: children.definitions.clone(),
            at_most: children.at_most,
            settled: children.settled,
        }),
        arm: node.arm.as_ref().map(|arm| StepArm { choice: arm.choice.clone(), arm: arm.arm }),
    }
}

fn retry(policy: &RetryPolicy) -> StepRetryPolicy {
    StepRetryPolicy {
        attempts: policy.attempts,
        first_delay_ms: millis(policy.first_delay),
        factor: policy.factor,
        max_delay_ms: millis(policy.max_delay),
        timeout_ms: millis(policy.timeout),
        max_postponed_ms: millis(policy.max_postponed),
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The example of a definition with its graphs.
pub(super) fn example_with_graphs() -> Value {
    let mut definition = example();
    definition["graphs"] = json!([{
        "graph_hash": "g1:9f6c2ab1d0e84c11",
        "first_seen_at": "2026-11-22T10:00:00Z",
        "workflows": 3,
        "known_by": 1,
        "processes": [{
            "worker": "0199f3a0-0000-7000-8000-0000000000aa", "host": "worker-1", "pid": 17, "role": "work",
            "version": "0.1.0", "works": true
        }]
    }]);
    definition
}

/// The example in the OpenAPI document.
pub(super) fn example() -> Value {
    let retry = json!({
        "attempts": 5, "first_delay_ms": 100, "factor": 3.0, "max_delay_ms": 30_000, "timeout_ms": 30_000,
        "max_postponed_ms": 259_200_000
    });
    json!({
        "name": "cancel-order",
        "queue": "default",
        "deadline_ms": null,
        "graph_hash": "g1:9f6c2ab1d0e84c11",
        "steps": [
            {
                "name": "begin-cancellation", "kind": "transaction", "entry": true, "placement": "pivot",
                "undo": "forward_only", "after": [], "reads": ["input"], "retry": retry, "undo_retry": null, "wait": null,
                "children": null, "arm": null
            },
            {
                "name": "release-stock", "kind": "transaction", "entry": false, "placement": "after_pivot",
                "undo": "forward_only", "after": ["begin-cancellation"], "reads": ["input"], "retry": retry,
                "undo_retry": null, "wait": null, "children": null, "arm": null
            }
        ],
        "input_schema": {
            "type": "object",
            "properties": {"order_id": {"type": "string", "format": "uuid"}},
            "required": ["order_id"]
        }
    })
}
