//! The JSON of definitions: their graphs and their input schemas.

use engine::{Definition, Placement, RetryPolicy, StepKind, UndoKind};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::resources::page::list;

/// What a saga is made of.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkflowDefinition {
    pub(crate) name: String,
    /// The queue its work stands in.
    pub(crate) queue: String,
    /// How long it may take to pass its point of no return.
    pub(crate) deadline_ms: Option<u64>,
    /// Over names, kinds, order, pivot and undos: workflows keep the hash that they were started with.
    pub(crate) graph_hash: String,
    /// In order.
    pub(crate) steps: Vec<WorkflowStep>,
    /// The JSON schema (draft 2020-12) of the input.
    #[schema(value_type = Object)]
    pub(crate) input_schema: Value,
}

list!(WorkflowDefinitionList of WorkflowDefinition, "All definitions, by name.", "Always `null`: the definitions are given whole.");

/// One step of a definition.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkflowStep {
    pub(crate) name: String,
    /// `transaction` (our database only, exactly once) or `call` (the outside world, at least once).
    pub(crate) kind: &'static str,
    /// Whether it runs in the commit that starts the workflow.
    pub(crate) entry: bool,
    /// `before_pivot`, `pivot` (the point of no return) or `after_pivot`.
    pub(crate) placement: &'static str,
    /// `undone` (it has an undo), `nothing_to_undo` or `forward_only`.
    pub(crate) undo: &'static str,
    /// The steps right before it.
    pub(crate) after: Vec<String>,
    /// What it reads: `input`, or names of earlier steps.
    pub(crate) reads: Vec<String>,
    /// How the action is tried.
    pub(crate) retry: WorkflowRetry,
    /// How the undo is tried; `null` where there is none.
    pub(crate) undo_retry: Option<WorkflowRetry>,
}

/// How often a step is tried, and how long is waited in between (exponential backoff with full jitter).
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkflowRetry {
    /// How many attempts in all.
    pub(crate) attempts: u32,
    /// The longest wait after the first attempt.
    pub(crate) first_delay_ms: u64,
    /// What the longest wait is multiplied by after each further attempt.
    pub(crate) factor: f64,
    /// The wait is never longer.
    pub(crate) max_delay_ms: u64,
    /// How long one attempt may take.
    pub(crate) timeout_ms: u64,
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
    let undo = match node.undo {
        UndoKind::HasUndo => "undone",
        UndoKind::NothingToUndo => "nothing_to_undo",
        UndoKind::ForwardOnly => "forward_only",
    };
    WorkflowStep {
        name: node.name.clone(),
        kind: match node.kind {
            StepKind::Transaction => "transaction",
            StepKind::Call => "call",
        },
        entry: node.entry,
        placement: match node.placement {
            Placement::BeforePivot => "before_pivot",
            Placement::Pivot => "pivot",
            Placement::AfterPivot => "after_pivot",
        },
        undo,
        after: node.after.clone(),
        reads: node.reads.clone(),
        retry: retry(&node.retry),
        undo_retry: (node.undo == UndoKind::HasUndo).then(|| retry(&node.undo_retry)),
    }
}

fn retry(policy: &RetryPolicy) -> WorkflowRetry {
    WorkflowRetry {
        attempts: policy.attempts,
        first_delay_ms: millis(policy.first_delay),
        factor: policy.factor,
        max_delay_ms: millis(policy.max_delay),
        timeout_ms: millis(policy.timeout),
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The example of the document.
pub(super) fn example() -> Value {
    let retry = json!({
        "attempts": 5, "first_delay_ms": 100, "factor": 3.0, "max_delay_ms": 30_000, "timeout_ms": 30_000
    });
    json!({
        "name": "cancel-order",
        "queue": "default",
        "deadline_ms": null,
        "graph_hash": "9f6c2ab1d0e84c11",
        "steps": [
            {
                "name": "begin-cancellation", "kind": "transaction", "entry": true, "placement": "pivot",
                "undo": "forward_only", "after": [], "reads": ["input"], "retry": retry, "undo_retry": null
            },
            {
                "name": "release-stock", "kind": "transaction", "entry": false, "placement": "after_pivot",
                "undo": "forward_only", "after": ["begin-cancellation"], "reads": ["input"], "retry": retry,
                "undo_retry": null
            }
        ],
        "input_schema": {
            "type": "object",
            "properties": {"order_id": {"type": "string", "format": "uuid"}},
            "required": ["order_id"]
        }
    })
}
