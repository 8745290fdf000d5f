//! The JSON of requests for dead jobs: what an operator asked for through a process that lacks the workflow's code.

use chrono::{DateTime, Utc};
use engine::{DeadJobAction, DiscardMode};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

/// What an operator asked for, and what waits for a process that has the workflow's code.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadJobRequest {
    pub(crate) action: RequestedAction,
    /// Whether it is discarded even if that leaves steps that are not undone; see `force` of a discard.
    pub(crate) force: bool,
    /// Who asked for it.
    pub(crate) by: String,
    pub(crate) reason: String,
    pub(crate) requested_at: DateTime<Utc>,
}

/// What is to be done with a dead job. More may be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RequestedAction {
    /// The workflow goes on where it died.
    Retry,
    /// It is given up.
    Discard,
}

/// A request that was refused when it was to be done.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RefusedDeadJobRequest {
    #[serde(flatten)]
    pub(crate) request: DeadJobRequest,
    /// Why it was refused.
    pub(crate) why: String,
    pub(crate) refused_at: DateTime<Utc>,
}

/// An action that this process could not do, because it lacks the workflow's code, and that is requested.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ActionRequested {
    /// The graph to which the workflow belongs.
    #[schema(example = "g1:9f6c2ab1d0e84c11")]
    pub(crate) graph_hash: String,
    /// Whether no live process knows this graph: then the request waits until one starts. Otherwise it is done within
    /// seconds.
    pub(crate) waits_for_version: bool,
}

impl From<engine::DeadJobRequest> for DeadJobRequest {
    fn from(request: engine::DeadJobRequest) -> Self {
        let engine::DeadJobRequest { action, by, reason, requested_at } = request;
        let (action, force) = match action {
            DeadJobAction::Retry => (RequestedAction::Retry, false),
            DeadJobAction::Discard(DiscardMode::Safe) => (RequestedAction::Discard, false),
            DeadJobAction::Discard(DiscardMode::Force) => (RequestedAction::Discard, true),
        };
        Self { action, force, by, reason, requested_at }
    }
}

impl From<engine::RefusedRequest> for RefusedDeadJobRequest {
    fn from(refused: engine::RefusedRequest) -> Self {
        Self { request: refused.request.into(), why: refused.why, refused_at: refused.refused_at }
    }
}

impl From<engine::ActionRequested> for ActionRequested {
    fn from(asked: engine::ActionRequested) -> Self {
        Self { graph_hash: asked.graph_hash, waits_for_version: asked.waits_for_version }
    }
}

/// The example of a request in the OpenAPI document.
pub(super) fn request_example() -> Value {
    json!({
        "action": "retry", "force": false, "by": "key:ops", "reason": "the mail server is back",
        "requested_at": "2026-11-22T10:20:00Z"
    })
}

/// The example of an action that is requested.
pub(super) fn requested_example() -> Value {
    json!({"graph_hash": "g1:9f6c2ab1d0e84c11", "waits_for_version": false})
}
