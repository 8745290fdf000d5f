//! Queues: what waits in them, and whether they are paused.

use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shop::queues::{self, DesiredState, QueueError};
use utoipa::ToSchema;

use crate::{
    extract::{Actor, IfMatch, JsonBody, Query, TextPath, check_reason},
    http::{
        JsonResponse, Problem, ProblemCode,
        documented::{BODY, ONE, STORED, problems},
    },
    state::ApiState,
};

problems!(ListProblems: STORED, &[ProblemCode::InvalidParameter]);
problems!(OneProblems: ONE, STORED);
problems!(PutProblems: BODY, STORED, &[ProblemCode::NotFound, ProblemCode::PreconditionFailed]);

/// A queue, whether it is paused, and what waits in it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Queue {
    pub(crate) name: String,
    /// Whether nothing is begun in it.
    pub(crate) paused: bool,
    /// Who paused it.
    pub(crate) paused_by: Option<String>,
    /// What for.
    pub(crate) reason: Option<String>,
    /// When it was paused or resumed last; `null` if it never was.
    pub(crate) since: Option<DateTime<Utc>>,
    /// Workflows that could move now and are not being worked on.
    pub(crate) due: i64,
    /// Workflows that wait for a later time.
    pub(crate) waiting: i64,
    /// Workflows being worked on.
    pub(crate) leased: i64,
    /// How long the oldest due one has waited.
    pub(crate) oldest_due_ms: i64,
}

/// All queues.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QueueList {
    pub(crate) items: Vec<Queue>,
    /// Always `null`: there are few queues, and all of them are given.
    pub(crate) next_cursor: Option<String>,
}

/// What a queue is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueueChange {
    /// `true` pauses it, `false` resumes it.
    pub(crate) paused: bool,
    /// For the audit; has to be given to pause.
    #[schema(
        min_length = 1,
        max_length = 500,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$",
        example = "the mail server moves"
    )]
    pub(crate) reason: Option<String>,
}

impl From<engine::QueueView> for Queue {
    fn from(queue: engine::QueueView) -> Self {
        let engine::QueueView {
            name,
            paused,
            paused_by,
            reason,
            since,
            due,
            waiting,
            leased,
            oldest_due_ms,
            ..
        } = queue;
        Self { name, paused, paused_by, reason, since, due, waiting, leased, oldest_due_ms }
    }
}

/// List the queues
///
/// All of them, with what waits in each and whether it is paused.
#[utoipa::path(
    get,
    path = "/api/queues",
    tag = "queues",
    responses(
        (
            status = 200,
            description = "All queues, by name",
            body = QueueList,
            example = json!({"items": [example()], "next_cursor": null})
        ),
        ListProblems
    )
)]
pub(crate) async fn list_queues(
    State(state): State<ApiState>,
    Query(()): Query<()>,
) -> Result<JsonResponse, Problem> {
    let items = state.engine().queues().await?.into_iter().map(Into::into).collect();
    JsonResponse::ok(&QueueList { items, next_cursor: None })
}

/// Read a queue
///
/// What waits in it, and whether it is paused. The `ETag` is that of its setting: it changes when somebody pauses or resumes
/// the queue, not with what waits in it.
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
    shown(queues::find(state.shop(), &name).await?)
}

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
    let current =
        if condition.needs_current() { Some(queues::find(state.shop(), &name).await?.version) } else { None };
    let expected = condition.expected(current)?;
    shown(queues::set(state.shop(), &name, desired, expected, actor.by("operator")).await?)
}

fn shown(queue: engine::QueueView) -> Result<JsonResponse, Problem> {
    let version = queue.version;
    Ok(JsonResponse::ok(&Queue::from(queue))?.version(version))
}

impl From<QueueError> for Problem {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::NotFound(name) => Self::not_found("queue", name),
            QueueError::VersionMismatch { current } => IfMatch::failed(Some(current)),
            QueueError::Database(error) => error.into(),
        }
    }
}

fn example() -> Value {
    json!({
        "name": "notifications",
        "paused": true,
        "paused_by": "key:backoffice/anna",
        "reason": "the mail server moves",
        "since": "2026-11-22T10:00:00Z",
        "due": 12,
        "waiting": 3,
        "leased": 0,
        "oldest_due_ms": 61000
    })
}
