//! GET `/api/queues/{name}`.

use axum::extract::State;

use engine::QueueView;
use http::StatusCode;

use super::body::{Queue, example};
use crate::{
    extract::{NoQuery, TextPath},
    http::{
        JsonResponse, Problem,
        documented::{DATABASE_PROBLEMS, RESOURCE_PROBLEMS, problems},
    },
    resources::versioned::{load, respond},
    state::ApiState,
};

problems!(OneProblems: RESOURCE_PROBLEMS, DATABASE_PROBLEMS);

/// Read a queue
///
/// Returns whether the queue is paused, and what waits in it. The `ETag` is the version of the setting: it changes when
/// the queue is paused or resumed, not with the work in it.
#[utoipa::path(
    get,
    path = "/api/queues/{name}",
    tag = "queues",
    params(("name" = String, Path, description = "The queue", example = "notifications")),
    responses(
        (
            status = 200,
            description = "The queue",
            body = Queue,
            headers(("ETag" = String, description = "The version of its setting, for `If-Match`")),
            example = json!(example())
        ),
        OneProblems
    )
)]
pub(crate) async fn get_queue(
    State(state): State<ApiState>,
    TextPath(name): TextPath,
    _: NoQuery,
) -> Result<JsonResponse, Problem> {
    respond(StatusCode::OK, load::<QueueView>(&state, &name).await?)
}
