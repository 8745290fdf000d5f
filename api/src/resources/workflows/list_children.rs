//! GET `/api/workflows/{workflow_id}/children/{step}`.

use axum::extract::State;
use engine::SagaId;

use super::{
    child_body::{WorkflowChildList, example},
    load::missing,
};
use crate::{
    extract::{CursorQuery, IdNamePath, Query, numbered},
    http::{
        JsonResponse, Problem,
        documented::{DATABASE_PROBLEMS, LIST_PROBLEMS, RESOURCE_PROBLEMS, problems},
    },
    resources::page::page_of,
    state::ApiState,
};

problems!(ChildrenProblems: RESOURCE_PROBLEMS, LIST_PROBLEMS, DATABASE_PROBLEMS);

/// List what the children of a step gave
///
/// Lists the children that a step of a workflow has started, by their positions, each with its status, and what it gave
/// or why it did not. Of a position that was opened anew it lists the last one. A step without children has an empty
/// list.
#[utoipa::path(
    get,
    path = "/api/workflows/{workflow_id}/children/{step}",
    tag = "workflows",
    params(
        ("workflow_id" = uuid::Uuid, Path, description = "The workflow"),
        ("step" = String, Path, description = "The name of its step", pattern = "^[^\\u0000]{1,128}$"),
        CursorQuery
    ),
    responses(
        (
            status = 200,
            description = "A page of the children",
            body = WorkflowChildList,
            example = json!(page_of(&example()))
        ),
        ChildrenProblems
    )
)]
pub(crate) async fn list_workflow_children(
    State(state): State<ApiState>,
    IdNamePath(id, step): IdNamePath,
    Query(query): Query<CursorQuery>,
) -> Result<JsonResponse, Problem> {
    let page_request = query.page_request("children", &format!("{id} {step}"))?;
    let after = page_request.after_number().and_then(|position| u32::try_from(position).ok());
    let rows = state.engine().child_results(SagaId(id), &step, after, page_request.limit).await?;
    let rows = rows.ok_or_else(|| missing(&state, id))?;
    JsonResponse::ok(&WorkflowChildList::of(rows, &page_request, |child| numbered(child.position.into())))
}
