//! The JSON of workflows.

use chrono::{DateTime, Utc};
use engine::{HistoryEntry, SagaView};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::resources::{documented_enum::documented_enum, page::list};

/// A workflow to be started.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewWorkflow {
    /// The definition's name; see `/api/workflow-definitions`.
    #[schema(example = "cancel-order")]
    pub(crate) definition: String,
    /// Fits the definition's input schema.
    pub(crate) input: Value,
    /// Makes the start idempotent for ever: a second start of this definition with the same key gives the first one's
    /// workflow. Keys that the shop makes for its own mails are not to be had, nor an order's id as the key of a workflow for
    /// another order.
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = "^(?!(order-(confirmed|rejected|cancelled|shipped)|sent):)[^\\u0000]*$"
    )]
    pub(crate) business_key: Option<String>,
}

/// Why a workflow is cancelled.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WorkflowCancellation {
    /// For the history.
    #[schema(max_length = 500, format = "any-line")]
    pub(crate) reason: Option<String>,
}

documented_enum!(WorkflowStatus, "Where a workflow is in its life.", engine::Status::ALL);

/// One run of a definition.
#[derive(Debug, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the JSON names its id so")]
pub(crate) struct Workflow {
    pub(crate) workflow_id: Uuid,
    pub(crate) definition: String,
    #[schema(value_type = WorkflowStatus)]
    pub(crate) status: engine::Status,
    /// The step it stands at, or ended at.
    pub(crate) step: String,
    /// `action` or `undo`: which side of the step.
    pub(crate) direction: &'static str,
    pub(crate) business_key: Option<String>,
    /// The attempt under way or made last, from one; zero before the first.
    pub(crate) attempt: u32,
    /// When it can move next, or when its lease ends; `null` when it has ended.
    pub(crate) due_at: Option<DateTime<Utc>>,
    /// When it unwinds if it has not passed its point of no return.
    pub(crate) deadline_at: Option<DateTime<Utc>>,
    /// The last error.
    pub(crate) error: Option<String>,
    /// Why it unwinds or unwound: `{"kind": "failed" | "cancelled" | "deadline_passed", …}`.
    #[schema(value_type = Option<Object>)]
    pub(crate) cause: Option<Value>,
    /// Whether a cancel was asked for and not acted on yet.
    pub(crate) cancel_requested: bool,
    pub(crate) queue: String,
    /// The shape that the definition had when it was started.
    pub(crate) graph_hash: String,
    pub(crate) input: Value,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) ended_at: Option<DateTime<Utc>>,
}

list!(WorkflowList of Workflow, "A page of workflows, newest first.");

/// One thing that happened to a workflow.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HistoryItem {
    /// From one, without gaps.
    pub(crate) seq: i32,
    pub(crate) step: String,
    /// `action` or `undo`.
    pub(crate) direction: &'static str,
    /// `started`, `done`, `retry`, `postponed`, `failed`, `lost`, `unreadable`, `exhausted`, `cancelled`,
    /// `deadline_passed`, `revived` or `discarded`.
    pub(crate) outcome: &'static str,
    /// From one; zero for what is no attempt.
    pub(crate) attempt: u32,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) duration_ms: i64,
    /// What the attempt gave.
    #[schema(value_type = Value)]
    pub(crate) output: Option<Value>,
    /// The error with its causes, outermost first; for a cancel, who and why.
    pub(crate) error: Vec<String>,
    /// The process that did it.
    pub(crate) worker: Option<Uuid>,
    /// The epoch of its claim.
    pub(crate) epoch: i64,
}

list!(WorkflowHistory of HistoryItem, "A page of what happened to a workflow, oldest first.");

impl From<SagaView> for Workflow {
    fn from(saga: SagaView) -> Self {
        Self {
            workflow_id: saga.saga_id.0,
            definition: saga.definition,
            status: saga.status,
            step: saga.step,
            direction: saga.direction.name(),
            business_key: saga.business_key,
            attempt: saga.attempt,
            due_at: saga.due_at,
            deadline_at: saga.deadline_at,
            error: saga.error,
            // A cause is plain data that was read from JSON.
            cause: saga.cause.and_then(|cause| serde_json::to_value(cause).ok()),
            cancel_requested: saga.cancel_requested,
            queue: saga.queue,
            graph_hash: saga.graph_hash,
            input: saga.input,
            created_at: saga.created_at,
            ended_at: saga.ended_at,
        }
    }
}

impl From<HistoryEntry> for HistoryItem {
    fn from(entry: HistoryEntry) -> Self {
        Self {
            seq: entry.seq,
            step: entry.step,
            direction: entry.direction.name(),
            outcome: entry.outcome.name(),
            attempt: entry.attempt,
            started_at: entry.started_at,
            duration_ms: entry.duration_ms,
            output: entry.output,
            error: entry.error,
            worker: entry.worker.map(|worker| worker.0),
            epoch: entry.epoch,
        }
    }
}

/// The example of the document.
pub(crate) fn example() -> Value {
    json!({
        "workflow_id": "0199f3a0-5c1e-7d2b-9a43-0f6f4a1c2b3e",
        "definition": "cancel-order",
        "status": "completed",
        "step": "finish-cancellation",
        "direction": "action",
        "business_key": "0199f3a0-5c1e-7d2b-9a43-0f6f4a1c2b3d",
        "attempt": 1,
        "due_at": null,
        "deadline_at": null,
        "error": null,
        "cause": null,
        "cancel_requested": false,
        "queue": "default",
        "graph_hash": "9f6c2ab1d0e84c11",
        "input": {
            "order_id": "0199f3a0-5c1e-7d2b-9a43-0f6f4a1c2b3d",
            "reason": "changed my mind",
            "actor": "key:backoffice"
        },
        "created_at": "2026-11-22T10:00:00.000123Z",
        "ended_at": "2026-11-22T10:00:00.005Z"
    })
}
