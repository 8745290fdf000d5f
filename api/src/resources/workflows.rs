//! Workflows: sagas of any registered definition.

mod body;
mod cancel;
mod definitions;
mod read;
mod start;

use serde_json::{Value, json};

pub(crate) use body::Workflow;
pub(crate) use cancel::{__path_cancel_workflow, cancel_workflow};
pub(crate) use definitions::{
    __path_get_workflow_definition, __path_list_workflow_definitions, get_workflow_definition,
    list_workflow_definitions,
};
pub(crate) use read::{
    __path_get_workflow, __path_get_workflow_history, __path_list_workflows, get_workflow,
    get_workflow_history, list_workflows, load,
};
pub(crate) use start::{__path_start_workflow, start_workflow};

/// An example of a workflow.
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
