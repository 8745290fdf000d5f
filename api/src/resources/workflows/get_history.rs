//! GET `/api/workflows/{workflow_id}/history`.

use axum::extract::State;
use engine::SagaId;
use utoipa::IntoParams;

use super::{body::WorkflowHistoryEntryList, load::missing};
use crate::{
    extract::{FromParams, IdPath, PageRequest, Params, Query, numbered},
    http::{
        JsonResponse, Problem,
        documented::{DATABASE_PROBLEMS, LIST_PROBLEMS, RESOURCE_PROBLEMS, problems},
    },
    state::ApiState,
};

/// The default page. The history of a workflow of the shop with few retries fits into one.
const HISTORY_PAGE: u32 = 100;

problems!(HistoryProblems: RESOURCE_PROBLEMS, LIST_PROBLEMS, DATABASE_PROBLEMS);

/// Which page of a history to return.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct HistoryQuery {
    /// `next_cursor` of the page before, of the same workflow.
    cursor: Option<String>,
    /// How many at most, 1 to 200; 100 by default.
    #[param(minimum = 1, maximum = 200, default = 100, required = false)]
    limit: u32,
}

impl FromParams for HistoryQuery {
    fn from_params(params: &mut Params) -> Self {
        Self { cursor: params.text("cursor", 256), limit: params.limit_or(HISTORY_PAGE) }
    }
}

/// Read a workflow's history
///
/// Lists every attempt of every step and undo, with its outcome, errors and timing, oldest first. A running attempt is
/// the last item, with the outcome `started`.
#[utoipa::path(
    get,
    path = "/api/workflows/{workflow_id}/history",
    tag = "workflows",
    params(("workflow_id" = Uuid, Path, description = "The workflow"), HistoryQuery),
    responses(
        (status = 200, description = "A page of the history", body = WorkflowHistoryEntryList, example = json!({
            "items": [{
                "seq": 1,
                "step": "begin-cancellation",
                "direction": "action",
                "outcome": "done",
                "attempt": 1,
                "started_at": "2026-11-22T10:00:00.000123Z",
                "duration_ms": 1,
                "output": null,
                "error": [],
                "worker": null,
                "epoch": 0
            }],
            "next_cursor": null
        })),
        HistoryProblems
    )
)]
pub(crate) async fn get_workflow_history(
    State(state): State<ApiState>,
    IdPath(id): IdPath,
    Query(query): Query<HistoryQuery>,
) -> Result<JsonResponse, Problem> {
    let page_request = PageRequest::new("history", &id.to_string(), query.cursor.as_deref(), query.limit)?;
    let after = page_request.after_number().map_or(0, |seq| i32::try_from(seq).unwrap_or(i32::MAX));
    let rows = state.engine().history_after(SagaId(id), after, page_request.limit).await?;
    let rows = rows.ok_or_else(|| missing(&state, id))?;
    JsonResponse::ok(&WorkflowHistoryEntryList::of(rows, &page_request, |entry| numbered(entry.seq.into())))
}
