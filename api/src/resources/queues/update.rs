//! PUT `/api/queues/{name}`.

use axum::extract::State;

use shop::commands::{self, DesiredState};

use super::body::{Queue, QueueChange, example, shown};
use crate::{
    extract::{Actor, IfMatch, JsonBody, Query, TextPath, check_reason},
    http::{
        JsonResponse, Problem, ProblemCode,
        documented::{BODY, STORED, problems},
    },
    state::ApiState,
};

problems!(PutProblems: BODY, STORED, &[ProblemCode::NotFound, ProblemCode::PreconditionFailed]);

/// Pause or resume a queue
///
/// Every process heeds it within about a second. While a queue is paused, nothing is begun in it: workflows are started
/// in it as ever, and wait; one that is being worked on goes on until it waits or ends. Deadlines pass meanwhile: orders
/// that waited in the queue `default` for longer than `RESERVATION_TTL` (15 minutes, unless it is set) are rejected when it
/// is resumed, and their customers are told so. Pausing a paused queue changes its reason; resuming a running one does
/// nothing. Who did it and why is kept.
#[utoipa::path(
    put,
    path = "/api/queues/{name}",
    tag = "queues",
    params(("name" = String, Path, description = "The queue", example = "notifications"), IfMatch, Actor),
    request_body(content = QueueChange, example = json!({"paused": true, "reason": "the mail server moves"})),
    responses(
        (
            status = 200,
            description = "The queue as it is now",
            body = Queue,
            headers(("ETag" = String, description = "The version of its setting; the old one if nothing has changed")),
            example = json!(example())
        ),
        PutProblems
    )
)]
pub(crate) async fn update_queue(
    State(state): State<ApiState>,
    TextPath(name): TextPath,
    Query(()): Query<()>,
    condition: IfMatch,
    actor: Actor,
    JsonBody { value: change, .. }: JsonBody<QueueChange>,
) -> Result<JsonResponse, Problem> {
    let reason = change.reason.as_deref().filter(|reason| !reason.trim().is_empty());
    if let Some(reason) = reason {
        check_reason(reason)?;
    }
    let desired = match (change.paused, reason) {
        (true, Some(reason)) => DesiredState::Paused { reason },
        (true, None) => return Err(Problem::field("/reason", "wrong-length", "say why it is paused")),
        (false, reason) => DesiredState::Running { reason },
    };
    let current = async || Ok(commands::find_queue(state.shop(), &name).await?.version);
    let expected = condition.expected_version(current).await?;
    shown(commands::set_queue(state.shop(), &name, desired, expected, actor.by("operator")).await?)
}
