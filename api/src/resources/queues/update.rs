//! PUT `/api/queues/{name}`.

use axum::extract::State;

use shop::commands::{self, DesiredState};

use super::body::{Queue, QueueUpdate, example};
use crate::{
    extract::{Actor, IfMatch, JsonBody, NoQuery, TextPath, check_reason},
    http::{
        JsonResponse, Problem, ProblemCode,
        documented::{BODY_PROBLEMS, DATABASE_PROBLEMS, problems},
    },
    resources::versioned::change,
    state::ApiState,
};

problems!(PutProblems: BODY_PROBLEMS, DATABASE_PROBLEMS, &[ProblemCode::NotFound, ProblemCode::PreconditionFailed]);

/// Pause or resume a queue
///
/// All processes follow within about a second. While a queue is paused, no work in it is begun: new workflows wait, and
/// a workflow that is being worked on continues until it waits or ends. Deadlines still pass: orders that waited in the
/// queue `default` for longer than `RESERVATION_TTL` (15 minutes by default) are rejected when it is resumed, and their
/// customers are notified. Pausing a paused queue changes its reason; resuming a running queue does nothing. The audit
/// records who did it and why.
#[utoipa::path(
    put,
    path = "/api/queues/{name}",
    tag = "queues",
    params(("name" = String, Path, description = "The queue", example = "notifications"), IfMatch, Actor),
    request_body(content = QueueUpdate, example = json!({"paused": true, "reason": "the mail server moves"})),
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
    _: NoQuery,
    condition: IfMatch,
    actor: Actor,
    JsonBody { value: wanted, .. }: JsonBody<QueueUpdate>,
) -> Result<JsonResponse, Problem> {
    let reason = wanted.reason.as_deref().filter(|reason| !reason.trim().is_empty());
    if let Some(reason) = reason {
        check_reason(reason)?;
    }
    let desired = match (wanted.paused, reason) {
        (true, Some(reason)) => DesiredState::Paused { reason },
        (true, None) => return Err(Problem::field("/reason", "wrong-length", "say why it is paused")),
        (false, reason) => DesiredState::Running { reason },
    };
    change(&state, name.as_str(), condition, async |expected| {
        commands::set_queue(state.shop(), &name, desired, expected, actor.audited_or("operator")).await
    })
    .await
}
