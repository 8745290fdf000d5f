//! GET `/api/workflows/{workflow_id}`.

use axum::extract::State;

use super::{
    body::{Workflow, example},
    load::load,
};
use crate::{
    extract::{IdPath, NoQuery},
    http::{
        JsonResponse, Problem,
        documented::{DATABASE_PROBLEMS, RESOURCE_PROBLEMS, problems},
    },
    state::ApiState,
};

problems!(OneProblems: RESOURCE_PROBLEMS, DATABASE_PROBLEMS);

/// Read a workflow
///
/// Returns the state of a workflow, its current step, and why it compensates if it does.
#[utoipa::path(
    get,
    path = "/api/workflows/{workflow_id}",
    tag = "workflows",
    params(("workflow_id" = Uuid, Path, description = "The workflow")),
    responses(
        (status = 200, description = "The workflow", body = Workflow, example = json!(example())),
        OneProblems
    )
)]
pub(crate) async fn get_workflow(
    State(state): State<ApiState>,
    IdPath(id): IdPath,
    _: NoQuery,
) -> Result<JsonResponse, Problem> {
    JsonResponse::ok(&load(&state, id).await?)
}
