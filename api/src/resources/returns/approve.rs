//! POST `/api/returns/{return_id}/approve`.

use axum::extract::State;
use shop::commands;

use super::body::{Return, ReturnApproval, example};
use crate::{
    extract::{Actor, IdPath, IfMatch, JsonBody, NoQuery},
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

/// Approve a return
///
/// The customer is told to send the parcel. Approving an approved return changes nothing; one that is closed is a 409.
#[utoipa::path(
    post,
    path = "/api/returns/{return_id}/approve",
    tag = "returns",
    params(("return_id" = Uuid, Path, description = "The return"), IfMatch, Actor),
    request_body(content = ReturnApproval, example = json!({"reason": "within two weeks"})),
    responses(
        (
            status = 200,
            description = "The return, approved",
            body = Return,
            headers(("ETag" = String, description = "The new version of the resource")),
            example = json!(example())
        ),
        Problems
    )
)]
pub(crate) async fn approve_return(
    State(state): State<ApiState>,
    IdPath(id): IdPath,
    _: NoQuery,
    condition: IfMatch,
    actor: Actor,
    JsonBody { value: body, .. }: JsonBody<ReturnApproval>,
) -> Result<JsonResponse, Problem> {
    let reason = body.reason.as_deref();
    change(&state, &id, condition, async |expected| {
        commands::approve_return(state.shop(), id, reason, actor.audited_or("api"), expected).await
    })
    .await
}
