//! GET `/api/queues`.

use axum::extract::State;

use super::body::{QueueList, example};
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

/// List the queues
///
/// Lists all queues: whether each is paused, and what waits in it.
#[utoipa::path(
    get,
    path = "/api/queues",
    tag = "queues",
    responses(
        (
            status = 200,
            description = "All queues, by name",
            body = QueueList,
            example = json!(whole(&example()))
        ),
        ListProblems
    )
)]
pub(crate) async fn list_queues(
    State(state): State<ApiState>,
    Query(()): Query<()>,
) -> Result<JsonResponse, Problem> {
    JsonResponse::ok(&QueueList::whole(state.engine().queues().await?))
}
