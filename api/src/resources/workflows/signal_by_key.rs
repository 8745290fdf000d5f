//! POST `/api/signals`.

use axum::extract::State;
use engine::SignalTarget;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::signal_body::{WorkflowSignalReceipt, example, signal};
use crate::{
    extract::{Actor, JsonBody, NoQuery},
    http::{
        JsonResponse, Problem, ProblemCode,
        documented::{BODY_PROBLEMS, DATABASE_PROBLEMS, problems},
    },
    state::ApiState,
};

problems!(
    Problems: BODY_PROBLEMS, DATABASE_PROBLEMS,
    &[
        ProblemCode::NotFound, ProblemCode::TakesNoSignals, ProblemCode::TooManySignals, ProblemCode::OtherVersion, ProblemCode::UnknownSignal,
        ProblemCode::SignalKeyUsed
    ]
);

/// A signal for the workflow of a business key.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddressedSignal {
    /// The definition of the workflow.
    #[schema(example = "place-order", format = "searchable")]
    definition: String,
    /// The business key with which it was started.
    #[schema(min_length = 1, max_length = 200, pattern = "^[^\\u0000]*$")]
    business_key: String,
    /// The name of the signal.
    #[schema(example = "payment-received", format = "searchable")]
    name: String,
    /// The message, valid by the `message_schema` of the step that waits for it.
    message: Value,
    /// Makes sending idempotent: the workflow takes one signal of this name and key, for as long as it is kept.
    #[schema(min_length = 1, max_length = 200, pattern = "^[^\\u0000]*$", example = "payment-17")]
    key: Option<String>,
}

/// Send a signal to the workflow of a business key
///
/// As sending a signal to a workflow by its id, for callers who know what it was started for.
#[utoipa::path(
    post,
    path = "/api/signals",
    tag = "workflows",
    params(Actor),
    request_body(content = AddressedSignal, example = json!({
        "definition": "place-order", "business_key": "0199f3a0-5c1e-7d2b-9a43-0f6f4a1c2b3d", "name": "payment-received",
        "message": {"reference": "payment-17"}, "key": "payment-17"
    })),
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
pub(crate) async fn send_signal(
    State(state): State<ApiState>,
    _: NoQuery,
    actor: Actor,
    JsonBody { value: new, .. }: JsonBody<AddressedSignal>,
) -> Result<JsonResponse, Problem> {
    for (pointer, text, longest) in [
        ("/definition", &new.definition, 200),
        ("/business_key", &new.business_key, 200),
        ("/name", &new.name, 128),
    ] {
        if text.contains('\0') || !(1..=longest).contains(&text.chars().count()) {
            return Err(Problem::field(
                pointer,
                "wrong-length",
                format!("it has 1 to {longest} characters, none of them U+0000"),
            ));
        }
    }
    let signal = signal(&new.name, &new.message, new.key);
    let target = SignalTarget::key(new.definition, new.business_key);
    let receipt = state.engine().signal_as(target, signal, actor.audited_or("operator")).await?;
    WorkflowSignalReceipt::response(receipt, new.name)
}
