//! POST `/api/workflows/{workflow_id}/signals/{name}`.

use axum::extract::State;
use engine::{SagaId, SignalError};

use super::{
    load::missing,
    signal_body::{WorkflowSignal, WorkflowSignalReceipt, example, signal},
};
use crate::{
    extract::{Actor, IdNamePath, JsonBody, NoQuery},
    http::{
        JsonResponse, Problem, ProblemCode,
        documented::{BODY_PROBLEMS, DATABASE_PROBLEMS, RESOURCE_PROBLEMS, problems},
    },
    state::ApiState,
};

problems!(
    Problems: BODY_PROBLEMS, RESOURCE_PROBLEMS, DATABASE_PROBLEMS,
    &[
        ProblemCode::TakesNoSignals, ProblemCode::TooManySignals, ProblemCode::OtherVersion, ProblemCode::UnknownSignal,
        ProblemCode::SignalKeyUsed
    ]
);

/// Send a signal to a workflow
///
/// A step of a workflow may wait for a signal: a message with a name. It is stored for the workflow and taken by the wait
/// for it, at once or when the workflow comes to it; each is taken once, the oldest first. The answer is what is known at
/// that moment: if the workflow ends meanwhile, the signal is too late.
#[utoipa::path(
    post,
    path = "/api/workflows/{workflow_id}/signals/{name}",
    tag = "workflows",
    params(
        ("workflow_id" = uuid::Uuid, Path, description = "The workflow"),
        ("name" = String, Path, description = "The name of the signal", example = "payment-received",
            pattern = "^[^\\u0000]{1,128}$"),
        Actor
    ),
    request_body(content = WorkflowSignal, example = json!({"message": {"reference": "payment-17"}, "key": "payment-17"})),
    responses(
        (
            status = 202,
            description = "The signal, which is stored",
            body = WorkflowSignalReceipt,
            headers(("Location" = String, description = "The workflow")),
            example = json!(example(false))
        ),
        (
            status = 200,
            description = "The signal, which was sent before with this key, and how far it has come",
            body = WorkflowSignalReceipt,
            headers(("Location" = String, description = "The workflow")),
            example = json!(example(true))
        ),
        Problems
    )
)]
pub(crate) async fn send_workflow_signal(
    State(state): State<ApiState>,
    IdNamePath(id, name): IdNamePath,
    _: NoQuery,
    actor: Actor,
    JsonBody { value: WorkflowSignal { message, key }, .. }: JsonBody<WorkflowSignal>,
) -> Result<JsonResponse, Problem> {
    let signal = signal(&name, &message, key);
    match state.engine().signal_as(SagaId(id), signal, actor.audited_or("operator")).await {
        Ok(receipt) => WorkflowSignalReceipt::response(receipt, name),
        Err(SignalError::NotFound(_)) => Err(missing(&state, id)),
        Err(error) => Err(error.into()),
    }
}
