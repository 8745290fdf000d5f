//! GET `/api/queues`.

use axum::extract::State;

use super::body::{QueueList, example};
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
pub(crate) async fn list_queues(State(state): State<ApiState>, _: NoQuery) -> Result<JsonResponse, Problem> {
    JsonResponse::ok(&QueueList::whole(state.engine().queues().await?))
}
