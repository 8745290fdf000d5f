//! GET `/api/workflow-definitions`.

use axum::extract::State;

use super::definition::{WorkflowDefinitionList, example};
use crate::{
    extract::Query,
    http::{
        JsonResponse, Problem, ProblemCode,
        documented::{STORED, problems},
    },
    resources::page::whole,
    state::ApiState,
};

problems!(ListProblems: STORED, &[ProblemCode::InvalidParameter]);

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
    Query(()): Query<()>,
) -> Result<JsonResponse, Problem> {
    JsonResponse::ok(&WorkflowDefinitionList::whole(state.engine().definitions()))
}
