//! GET `/api/workflows/{workflow_id}/signals`.

use axum::extract::State;
use engine::SagaId;

use super::{
    load::missing,
    signal_body::{WorkflowSignalList, listed_example},
};
use crate::{
    extract::{CursorQuery, IdPath, Query, numbered},
    http::{
        JsonResponse, Problem,
        documented::{DATABASE_PROBLEMS, LIST_PROBLEMS, RESOURCE_PROBLEMS, problems},
    },
    resources::page::page_of,
    state::ApiState,
};

problems!(SignalsProblems: RESOURCE_PROBLEMS, LIST_PROBLEMS, DATABASE_PROBLEMS);

/// List the signals of a workflow
///
/// Lists the signals that were sent to a workflow, oldest first, and how far each has come. Their messages are not
/// listed: those that were consumed are in the history.
#[utoipa::path(
    get,
    path = "/api/workflows/{workflow_id}/signals",
    tag = "workflows",
    params(("workflow_id" = uuid::Uuid, Path, description = "The workflow"), CursorQuery),
    responses(
        (
            status = 200,
            description = "A page of the signals",
            body = WorkflowSignalList,
            example = json!(page_of(&listed_example()))
        ),
        SignalsProblems
    )
)]
pub(crate) async fn list_workflow_signals(
    State(state): State<ApiState>,
    IdPath(id): IdPath,
    Query(query): Query<CursorQuery>,
) -> Result<JsonResponse, Problem> {
    let page_request = query.page_request("signals", &id.to_string())?;
    let after = page_request.after_number().unwrap_or_default();
    let rows = state.engine().signals_of(SagaId(id), after, page_request.limit).await?;
    let rows = rows.ok_or_else(|| missing(&state, id))?;
    JsonResponse::ok(&WorkflowSignalList::of(rows, &page_request, |signal| numbered(signal.id)))
}
