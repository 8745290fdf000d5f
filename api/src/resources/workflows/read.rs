//! GET of one workflow, its history, and lists of them.

use std::time::Duration;

use axum::extract::State;
use engine::{SagaFilter, SagaId, SagaView};
use utoipa::IntoParams;
use uuid::Uuid;

use super::{
    body::{Workflow, WorkflowHistory, WorkflowList, WorkflowStatus},
    example,
};
use crate::{
    extract::{FromParams, IdPath, PageRequest, Params, Query, Timestamp, next_page, numbered},
    http::{
        JsonResponse, Problem,
        documented::{LIST, ONE, STORED, problems},
    },
    resources::page::page_of,
    state::ApiState,
};

/// The history of any of the shop's workflows that has not met much trouble is one page.
const HISTORY_PAGE: u32 = 100;
/// A year.
const MAX_STUCK_S: u32 = 31_536_000;

problems!(OneProblems: ONE, STORED);
problems!(HistoryProblems: ONE, LIST, STORED);
problems!(ListProblems: LIST, STORED);

/// Which workflows to list.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct WorkflowQuery {
    /// Only those of this definition.
    definition: Option<String>,
    /// Only those in this status.
    #[param(inline)]
    #[param(value_type = Option<WorkflowStatus>)]
    status: Option<engine::Status>,
    /// Only those with this business key.
    business_key: Option<String>,
    /// Only those started after this time (RFC 3339).
    #[param(value_type = Option<DateTime<Utc>>)]
    created_after: Option<Timestamp>,
    /// Only those started before this time (RFC 3339).
    #[param(value_type = Option<DateTime<Utc>>)]
    created_before: Option<Timestamp>,
    /// Only those that are unfinished and overdue by more than so many seconds: nobody moves them.
    #[param(maximum = 31_536_000)]
    stuck_for_s: Option<u32>,
    /// `next_cursor` of the page before, with the same filter.
    cursor: Option<String>,
    /// How many at most, 1 to 200; 50 if left out.
    #[param(minimum = 1, maximum = 200, default = 50, required = false)]
    limit: u32,
}

impl FromParams for WorkflowQuery {
    fn from_params(params: &mut Params) -> Self {
        Self {
            definition: params.text("definition", 64),
            status: params.take("status"),
            business_key: params.text("business_key", 200),
            created_after: params.take("created_after"),
            created_before: params.take("created_before"),
            stuck_for_s: params.number("stuck_for_s", 0..=MAX_STUCK_S),
            cursor: params.text("cursor", 256),
            limit: params.limit(),
        }
    }
}

/// Which part of a history to give.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct HistoryQuery {
    /// `next_cursor` of the page before, of the same workflow.
    cursor: Option<String>,
    /// How many at most, 1 to 200; 100 if left out.
    #[param(minimum = 1, maximum = 200, default = 100, required = false)]
    limit: u32,
}

impl FromParams for HistoryQuery {
    fn from_params(params: &mut Params) -> Self {
        Self { cursor: params.text("cursor", 256), limit: params.limit_or(HISTORY_PAGE) }
    }
}

/// Reads one saga.
///
/// # Errors
/// A 404 when there is none.
pub(crate) async fn load(state: &ApiState, id: Uuid) -> Result<SagaView, Problem> {
    state.engine().saga(SagaId(id)).await?.ok_or_else(|| Problem::not_found("workflow", id))
}

/// Read a workflow
///
/// Its state, where it stands, and why it unwinds if it does.
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
    Query(()): Query<()>,
) -> Result<JsonResponse, Problem> {
    JsonResponse::ok(&Workflow::from(load(&state, id).await?))
}

/// Read a workflow's history
///
/// Every attempt of every step and undo, with its outcome, errors and timing, oldest first. An attempt that is under way
/// is the last item of all, with the outcome `started`.
#[utoipa::path(
    get,
    path = "/api/workflows/{workflow_id}/history",
    tag = "workflows",
    params(("workflow_id" = Uuid, Path, description = "The workflow"), HistoryQuery),
    responses(
        (status = 200, description = "A page of the history", body = WorkflowHistory, example = json!({
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
    let rows = state.engine().history_after(SagaId(id), after, page_request.read_limit()).await?;
    let rows = rows.ok_or_else(|| Problem::not_found("workflow", id))?;
    let (rows, next_cursor) = next_page(rows, &page_request, |entry| numbered(entry.seq.into()));
    JsonResponse::ok(&WorkflowHistory { items: rows.into_iter().map(Into::into).collect(), next_cursor })
}

/// List workflows
///
/// Newest first.
#[utoipa::path(
    get,
    path = "/api/workflows",
    tag = "workflows",
    params(WorkflowQuery),
    responses(
        (status = 200, description = "A page of workflows", body = WorkflowList, example = json!(page_of(&example()))),
        ListProblems
    )
)]
pub(crate) async fn list_workflows(
    State(state): State<ApiState>,
    Query(query): Query<WorkflowQuery>,
) -> Result<JsonResponse, Problem> {
    let filter = SagaFilter {
        definition: query.definition,
        status: query.status,
        business_key: query.business_key,
        created_after: query.created_after.map(Into::into),
        created_before: query.created_before.map(Into::into),
        stuck_for: query.stuck_for_s.map(|seconds| Duration::from_secs(seconds.into())),
    };
    let page_request =
        PageRequest::new("workflows", &format!("{filter:?}"), query.cursor.as_deref(), query.limit)?;
    let rows = state.engine().sagas(&filter, page_request.engine_page()).await?;
    let (rows, next_cursor) = next_page(rows, &page_request, |saga| saga.saga_id.0);
    JsonResponse::ok(&WorkflowList { items: rows.into_iter().map(Into::into).collect(), next_cursor })
}
