//! The response to an action on one dead job: its workflow.

use engine::{Discarded, SagaId};
use http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::{
    http::{JsonResponse, Problem},
    resources::workflows::{
        body::{Workflow, example},
        load::load,
    },
    state::ApiState,
};

/// The workflow of a dead job that was discarded.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DiscardedWorkflow {
    #[serde(flatten)]
    workflow: Workflow,
    /// What becomes of its children, if it ended as it was while they had not ended; `null` if there were none.
    left_children: Option<LeftChildren>,
}

/// What becomes of the children of a workflow that was discarded while they had not ended.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LeftChildren {
    /// How many are cancelled.
    cancelled: i64,
    /// How many go on without it, because they are past their own point of no return.
    go_on: i64,
}

/// Answers with the workflow of a dead job that was discarded.
///
/// # Errors
/// A 404 when it is gone.
pub(super) async fn discarded(state: &ApiState, done: Discarded) -> Result<JsonResponse, Problem> {
    let Discarded { saga_id, left_children: engine::LeftChildren { cancelled, go_on }, .. } = done;
    let workflow = load(state, saga_id.0).await?;
    let left_children = (cancelled + go_on > 0).then_some(LeftChildren { cancelled, go_on });
    let body = DiscardedWorkflow { workflow, left_children };
    Ok(JsonResponse::new(StatusCode::OK, &body)?.location(format!("/api/workflows/{saga_id}")))
}

/// The example of a discarded workflow in the OpenAPI document.
pub(super) fn discarded_example() -> Value {
    let mut workflow = example();
    workflow["left_children"] = json!({"cancelled": 2, "go_on": 1});
    workflow
}

/// Answers with the workflow of a dead job.
///
/// # Errors
/// A 404 when it is gone.
pub(super) async fn answer(
    state: &ApiState,
    status: StatusCode,
    saga: SagaId,
) -> Result<JsonResponse, Problem> {
    let workflow = load(state, saga.0).await?;
    Ok(JsonResponse::new(status, &workflow)?.location(format!("/api/workflows/{saga}")))
}
