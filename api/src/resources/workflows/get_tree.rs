//! GET `/api/workflows/{workflow_id}/tree`.

use axum::extract::State;
use engine::SagaId;

use super::{
    load::missing,
    tree_body::{WorkflowTree, example},
};
use crate::{
    extract::{IdPath, NoQuery},
    http::{
        JsonResponse, Problem,
        documented::{DATABASE_PROBLEMS, RESOURCE_PROBLEMS, problems},
    },
    state::ApiState,
};

problems!(TreeProblems: RESOURCE_PROBLEMS, DATABASE_PROBLEMS);

/// Read the tree of a workflow
///
/// Returns the tree of which a workflow is part: the topmost workflow, how many descendants it has by the steps that
/// started them and by their status, and the first of those that need somebody. A workflow without children is a tree,
/// too. All of the tree is counted: few trees are read at a time (503 `overloaded` beyond that), each for two seconds
/// at most (503 `timeout`).
#[utoipa::path(
    get,
    path = "/api/workflows/{workflow_id}/tree",
    tag = "workflows",
    params(("workflow_id" = uuid::Uuid, Path, description = "The workflow, or any of its ancestors or descendants")),
    responses(
        (status = 200, description = "The tree", body = WorkflowTree, example = json!(example())),
        TreeProblems
    )
)]
pub(crate) async fn get_workflow_tree(
    State(state): State<ApiState>,
    IdPath(id): IdPath,
    _: NoQuery,
) -> Result<JsonResponse, Problem> {
    let _permit = state.scan_permit()?;
    let tree = state.engine().tree(SagaId(id)).await?;
    let tree = tree.ok_or_else(|| missing(&state, id))?;
    JsonResponse::ok(&WorkflowTree::from(tree))
}
