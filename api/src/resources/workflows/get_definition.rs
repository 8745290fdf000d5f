//! GET `/api/workflow-definitions/{name}`.

use axum::extract::State;

use super::definition::{WorkflowDefinition, WorkflowDefinitionWithGraphs, example_with_graphs};
use crate::{
    extract::{NoQuery, TextPath},
    http::{
        JsonResponse, Problem,
        documented::{DATABASE_PROBLEMS, RESOURCE_PROBLEMS, problems},
    },
    state::ApiState,
};

problems!(OneProblems: RESOURCE_PROBLEMS, DATABASE_PROBLEMS);

/// Read a workflow definition
///
/// Returns the graph of a definition, with the undo beside each action, and the JSON schema of its input; and which
/// graphs it has had, how many workflows each still has, and which processes know it.
#[utoipa::path(
    get,
    path = "/api/workflow-definitions/{name}",
    tag = "workflows",
    params(("name" = String, Path, description = "The definition's name", example = "place-order")),
    responses(
        (
            status = 200,
            description = "The definition",
            body = WorkflowDefinitionWithGraphs,
            example = json!(example_with_graphs())
        ),
        OneProblems
    )
)]
pub(crate) async fn get_workflow_definition(
    State(state): State<ApiState>,
    TextPath(name): TextPath,
    _: NoQuery,
) -> Result<JsonResponse, Problem> {
    let definition = state.engine().definition(&name);
    let definition = definition.ok_or_else(|| Problem::not_found("workflow definition", &name))?;
    let definition = WorkflowDefinition::from(definition);
    let graphs = state.engine().graphs_of(&name).await?.into_iter().map(Into::into).collect();
    JsonResponse::ok(&WorkflowDefinitionWithGraphs { definition, graphs })
}
