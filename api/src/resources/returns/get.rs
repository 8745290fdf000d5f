//! GET `/api/returns/{return_id}`.

use axum::{extract::State, response::Response};
use shop::returns;

use super::body::{Return, example};
use crate::{
    extract::{IdPath, IfNoneMatch, NoQuery},
    http::{
        Problem,
        documented::{DATABASE_PROBLEMS, RESOURCE_PROBLEMS, problems},
    },
    resources::versioned::read,
    state::ApiState,
};

problems!(OneProblems: RESOURCE_PROBLEMS, DATABASE_PROBLEMS);

/// Read a return
///
/// Returns a return with its units, its timeline, and its workflow.
#[utoipa::path(
    get,
    path = "/api/returns/{return_id}",
    tag = "returns",
    params(("return_id" = Uuid, Path, description = "The return"), IfNoneMatch),
    responses(
        (
            status = 200,
            description = "The return",
            body = Return,
            headers(("ETag" = String, description = "The version of the resource, for `If-Match`")),
            example = json!(example())
        ),
        (status = 304, description = "The caller has this version already"),
        OneProblems
    )
)]
pub(crate) async fn get_return(
    State(state): State<ApiState>,
    IdPath(id): IdPath,
    _: NoQuery,
    seen: IfNoneMatch,
) -> Result<Response, Problem> {
    read::<returns::OrderReturn>(&state, &id, seen).await
}
