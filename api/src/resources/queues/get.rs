//! GET `/api/queues/{name}`.

use axum::extract::State;

use shop::commands;

use super::body::{Queue, example, respond};
use crate::{
    extract::{Query, TextPath, change_problem},
    http::{
        JsonResponse, Problem,
        documented::{ONE, STORED, problems},
    },
    state::ApiState,
};

problems!(OneProblems: ONE, STORED);

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
    Query(()): Query<()>,
) -> Result<JsonResponse, Problem> {
    let found = commands::find_queue(state.shop(), &name).await;
    respond(found.map_err(|error| change_problem("queue", &name, error))?)
}
