//! GET `/api/workflow-definitions`.

use axum::extract::State;

use super::definition::{WorkflowDefinitionList, example};
use crate::{
    extract::NoQuery,
    http::{
        JsonResponse, Problem, ProblemCode,
        documented::{DATABASE_PROBLEMS, problems},
    },
    resources::page::whole,
    state::ApiState,
};

problems!(ListProblems: DATABASE_PROBLEMS, &[ProblemCode::InvalidParameter]);

/// List workflow definitions
///
/// Lists the definitions that this process has registered, by name, each with its graph and the JSON schema of its
/// input.
#[utoipa::path(
    get,
    path = "/api/workflow-definitions",
    tag = "workflows",
    responses(
        (
            status = 200,
            description = "The definitions",
            body = WorkflowDefinitionList,
            example = json!(whole(&example()))
        ),
        ListProblems
    )
)]
pub(crate) async fn list_workflow_definitions(
    State(state): State<ApiState>,
    _: NoQuery,
) -> Result<JsonResponse, Problem> {
    JsonResponse::ok(&WorkflowDefinitionList::whole(state.engine().definitions()))
}
