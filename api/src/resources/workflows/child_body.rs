//! The JSON of what the children of a step gave.

use chrono::{DateTime, Utc};
use engine::ChildResult;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{body::WorkflowStatus, cause::WorkflowCause};
use crate::resources::page::list;

/// One child of a step, with what it gave.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkflowChild {
    /// The number of the child, from zero.
    pub(crate) position: u32,
    /// How often the parent's step had been begun anew when it was started.
    pub(crate) round: u32,
    pub(crate) workflow_id: Uuid,
    pub(crate) definition: String,
    #[schema(value_type = WorkflowStatus)]
    pub(crate) status: engine::Status,
    /// What it gave; `null` until it has completed, and for definitions that give nothing.
    #[schema(value_type = Value)]
    pub(crate) result: Option<Value>,
    /// Why it compensates or has compensated; `null` also if only a newer version knows that kind of cause.
    pub(crate) cause: Option<WorkflowCause>,
    /// The last error.
    pub(crate) error: Option<String>,
    /// What it waits for, as in the list of workflows.
    #[schema(example = "version")]
    pub(crate) waits_for: Option<String>,
    pub(crate) ended_at: Option<DateTime<Utc>>,
}

list!(WorkflowChildList of WorkflowChild, "A page of the children of a step, by their positions.");

impl From<ChildResult> for WorkflowChild {
    fn from(child: ChildResult) -> Self {
        Self {
            position: child.position,
            round: child.round,
            workflow_id: child.saga_id.0,
            definition: child.definition,
            status: child.status,
            result: child.result,
            cause: WorkflowCause::known(child.cause),
            error: child.error,
            waits_for: child.waits_for,
            ended_at: child.ended_at,
        }
    }
}

/// An example in the OpenAPI document.
pub(super) fn example() -> Value {
    json!({
        "position": 0,
        "round": 0,
        "workflow_id": "0199f3a0-5c1e-7d2b-9a43-0f6f4a1c2b3f",
        "definition": "import-row",
        "status": "completed",
        "result": {"row": 17},
        "cause": null,
        "error": null,
        "waits_for": null,
        "ended_at": "2026-11-22T10:00:00.005Z"
    })
}
