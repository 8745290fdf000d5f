//! The response to an action on one dead job: its workflow.

use engine::{DeadJobOutcome, Discarded, SagaId};
use http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::request_body::{ActionRequested, requested_example};
use crate::{
    http::{JsonResponse, Problem},
    resources::workflows::{
        body::{Workflow, example},
        load::load,
    },
    state::ApiState,
};

/// The workflow of a dead job that was retried.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RetriedWorkflow {
    #[serde(flatten)]
    workflow: Workflow,
    /// That a process which has the workflow's code was asked to retry it; `null` if it is retried. Until then it is
    /// still `dead`.
    requested: Option<ActionRequested>,
}

/// The workflow of a dead job that was discarded.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DiscardedWorkflow {
    #[serde(flatten)]
    workflow: Workflow,
    /// What becomes of its children, if it ended as it was while they had not ended; `null` if there were none.
    left_children: Option<LeftChildren>,
    /// That a process which has the workflow's code was asked to discard it; `null` if it is discarded. Until then it is
    /// still `dead`.
    requested: Option<ActionRequested>,
}

/// What becomes of the children of a workflow that was discarded while they had not ended.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LeftChildren {
    /// How many are cancelled.
    cancelled: i64,
    /// How many go on without it, because they are past their own point of no return.
    go_on: i64,
}

/// Answers with the workflow of a dead job that was discarded, or will be.
///
/// # Errors
/// A 404 when it is gone.
pub(super) async fn discarded(
    state: &ApiState,
    outcome: DeadJobOutcome<Discarded>,
) -> Result<JsonResponse, Problem> {
    let (status, saga_id, left, requested) = match outcome {
        DeadJobOutcome::Done(Discarded { saga_id, left_children, .. }) => {
            (StatusCode::OK, saga_id, left_children, None)
        }
        DeadJobOutcome::Requested(asked) => {
            (StatusCode::ACCEPTED, asked.saga_id, engine::LeftChildren::default(), Some(asked.into()))
        }
    };
    let engine::LeftChildren { cancelled, go_on } = left;
    let left_children = (cancelled + go_on > 0).then_some(LeftChildren { cancelled, go_on });
    let body = DiscardedWorkflow { workflow: load(state, saga_id.0).await?, left_children, requested };
    Ok(JsonResponse::new(status, &body)?.location(format!("/api/workflows/{saga_id}")))
}

/// Answers with the workflow of a dead job that was retried, or will be.
///
/// # Errors
/// A 404 when it is gone.
pub(super) async fn retried(
    state: &ApiState,
    outcome: DeadJobOutcome<SagaId>,
) -> Result<JsonResponse, Problem> {
    let (saga_id, requested) = match outcome {
        DeadJobOutcome::Done(saga_id) => (saga_id, None),
        DeadJobOutcome::Requested(asked) => (asked.saga_id, Some(asked.into())),
    };
    let body = RetriedWorkflow { workflow: load(state, saga_id.0).await?, requested };
    Ok(JsonResponse::new(StatusCode::ACCEPTED, &body)?.location(format!("/api/workflows/{saga_id}")))
}

/// The example of a retried workflow in the OpenAPI document.
pub(super) fn retried_example() -> Value {
    let mut workflow = example();
    workflow["requested"] = Value::Null;
    workflow
}

/// The example of a discarded workflow in the OpenAPI document.
pub(super) fn discarded_example() -> Value {
    let mut workflow = example();
    (workflow["left_children"], workflow["requested"]) = (json!({"cancelled": 2, "go_on": 1}), Value::Null);
    workflow
}

/// The example of a workflow that another process is asked to discard.
pub(super) fn discard_requested_example() -> Value {
    let mut workflow = example();
    (workflow["status"], workflow["left_children"]) = (json!("dead"), Value::Null);
    workflow["requested"] = requested_example();
    workflow
}
