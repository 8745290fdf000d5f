//! POST `/api/returns/{return_id}/receive`.

use axum::extract::State;
use shop::commands;

use super::body::{Return, ReturnReceipt, example};
use crate::{
    extract::{Actor, IdPath, IfMatch, JsonBody, NoQuery, StrictObject},
    http::{
        JsonResponse, Problem, ProblemCode,
        documented::{BODY_PROBLEMS, DATABASE_PROBLEMS, RESOURCE_PROBLEMS, problems},
    },
    resources::versioned::change,
    state::ApiState,
};

problems!(
    Problems: BODY_PROBLEMS, RESOURCE_PROBLEMS, DATABASE_PROBLEMS,
    &[ProblemCode::IllegalReturnStatus, ProblemCode::WorkflowEnded, ProblemCode::PreconditionFailed]
);

/// Receive the parcel of a return
///
/// Says what was in the parcel of an approved return. What is fit for sale goes back to stock, and the customer is told; the
/// return is `received` until that is done, and then `completed`. The order becomes `returned` when every unit of it is
/// back. What was announced and is missing can be in another return.
#[utoipa::path(
    post,
    path = "/api/returns/{return_id}/receive",
    tag = "returns",
    params(("return_id" = Uuid, Path, description = "The return"), IfMatch, Actor),
    request_body(content = ReturnReceipt, example = json!({"items": [{"sku": "TEA-1", "quantity": 1, "fit_for_sale": 1}]})),
    responses(
        (
            status = 200,
            description = "The return, received",
            body = Return,
            headers(("ETag" = String, description = "The new version of the resource")),
            example = json!(example())
        ),
        Problems
    )
)]
pub(crate) async fn receive_return(
    State(state): State<ApiState>,
    IdPath(id): IdPath,
    _: NoQuery,
    condition: IfMatch,
    actor: Actor,
    JsonBody { value: body, .. }: JsonBody<ReturnReceipt>,
) -> Result<JsonResponse, Problem> {
    let items = body.items.map(|items| items.into_iter().map(|StrictObject(item)| item).collect::<Vec<_>>());
    if items.as_ref().is_some_and(Vec::is_empty) {
        return Err(Problem::field("/items", "wrong-length", "must have 1 to 100 items, or be left out"));
    }
    let (items, reason) = (items.unwrap_or_default(), body.reason.as_deref());
    change(&state, &id, condition, async |expected| {
        let by = actor.audited_or("api");
        commands::receive_return(state.shop(), id, &items, reason, by, expected).await
    })
    .await
}
