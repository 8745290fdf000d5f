//! POST `/api/returns/{return_id}/reject`.

use axum::extract::State;
use shop::commands;

use super::body::{Return, ReturnRejection, example};
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

/// Reject a return
///
/// The customer is told why. Rejecting a rejected return changes nothing; one that is approved or closed is a 409.
#[utoipa::path(
    post,
    path = "/api/returns/{return_id}/reject",
    tag = "returns",
    params(("return_id" = Uuid, Path, description = "The return"), IfMatch, Actor),
    request_body(content = ReturnRejection, example = json!({"reason": "it was worn"})),
    responses(
        (
            status = 200,
            description = "The return, rejected",
            body = Return,
            headers(("ETag" = String, description = "The new version of the resource")),
            example = json!(example())
        ),
        Problems
    )
)]
pub(crate) async fn reject_return(
    State(state): State<ApiState>,
    IdPath(id): IdPath,
    _: NoQuery,
    condition: IfMatch,
    actor: Actor,
    JsonBody { value: body, .. }: JsonBody<ReturnRejection>,
) -> Result<JsonResponse, Problem> {
    change(&state, &id, condition, async |expected| {
        commands::reject_return(state.shop(), id, &body.reason, actor.audited_or("api"), expected).await
    })
    .await
}
