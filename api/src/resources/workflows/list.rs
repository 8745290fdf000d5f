//! GET `/api/workflows`.

use axum::extract::State;
use engine::{SagaFilter, SagaId};
use std::time::Duration;
use utoipa::IntoParams;
use uuid::Uuid;

use super::body::{WorkflowList, WorkflowStatus, listed_example};
use crate::{
    extract::{FromParams, PageRequest, Params, Query, Timestamp},
    http::{
        JsonResponse, Problem,
        documented::{DATABASE_PROBLEMS, LIST_PROBLEMS, problems},
    },
    resources::page::page_of,
    state::ApiState,
};

/// One year.
const MAX_STUCK_S: u32 = 31_536_000;

problems!(ListProblems: LIST_PROBLEMS, DATABASE_PROBLEMS);

/// Which workflows to list.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct WorkflowQuery {
    /// Only those of this definition.
    definition: Option<String>,
    /// Only those in this status.
    #[param(value_type = WorkflowStatus, required = false)]
    status: Option<engine::Status>,
    /// Only those with this business key.
    business_key: Option<String>,
    /// Only the children of this workflow.
    parent: Option<Uuid>,
    /// Only this workflow, which is nobody's child, and its descendants.
    root: Option<Uuid>,
    /// Only those started after this time (RFC 3339).
    #[param(value_type = Option<DateTime<Utc>>)]
    created_after: Option<Timestamp>,
    /// Only those started before this time (RFC 3339).
    #[param(value_type = Option<DateTime<Utc>>)]
    created_before: Option<Timestamp>,
    /// Only unfinished ones that have not moved for more than this many seconds: no step was done or undone. They wait
    /// (for a worker, for a lock, for a service that is out of order, or because their queue is paused), or are tried
    /// in vain.
    #[param(maximum = 31_536_000)]
    stuck_for_s: Option<u32>,
    /// `next_cursor` of the page before, with the same filter.
    cursor: Option<String>,
    /// How many at most, 1 to 200; 50 by default.
    #[param(minimum = 1, maximum = 200, default = 50, required = false)]
    limit: u32,
}

impl FromParams for WorkflowQuery {
    fn from_params(params: &mut Params) -> Self {
        Self {
            definition: params.text("definition", 64),
            status: params.take("status"),
            business_key: params.text("business_key", 200),
            parent: params.take("parent"),
            root: params.take("root"),
            created_after: params.take("created_after"),
            created_before: params.take("created_before"),
            stuck_for_s: params.number("stuck_for_s", 0..=MAX_STUCK_S),
            cursor: params.text("cursor", 256),
            limit: params.limit(),
        }
    }
}

/// List workflows
///
/// Lists workflows, newest first, without their inputs.
///
/// With several conditions (other than a definition and a time), with the status `running` or `completed`, or with
/// `stuck_for_s`, the list may have to look at many workflows: few such lists are read at a time (503 `overloaded`
/// beyond that), each for two seconds at most (503 `timeout`).
#[utoipa::path(
    get,
    path = "/api/workflows",
    tag = "workflows",
    params(WorkflowQuery),
    responses(
        (status = 200, description = "A page of workflows", body = WorkflowList, example = json!(page_of(&listed_example()))),
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
        parent: query.parent.map(SagaId),
        root: query.root.map(SagaId),
        created_after: query.created_after.map(Into::into),
        created_before: query.created_before.map(Into::into),
        stuck_for: query.stuck_for_s.map(|seconds| Duration::from_secs(seconds.into())),
    };
    let page_request =
        PageRequest::new("workflows", &format!("{filter:?}"), query.cursor.as_deref(), query.limit)?;
    let _permit = state.list_permit(filter.may_scan())?;
    let rows = state.engine().sagas(&filter, page_request.engine_page()).await?;
    JsonResponse::ok(&WorkflowList::of(rows, &page_request, |saga| saga.saga_id.0))
}
