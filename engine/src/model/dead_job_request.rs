//! Actions on dead jobs, and how a process that lacks the code of a saga asks another one for them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::model::ids::SagaId;

/// What an operator does with a dead job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadJobAction {
    /// Its saga continues where it died: see [`Engine::retry_dead_job`](crate::Engine::retry_dead_job).
    Retry,
    /// It is given up: see [`Engine::discard_dead_job`](crate::Engine::discard_dead_job).
    Discard(DiscardMode),
}

/// Whether a discard may leave effects that are not undone, because the undo itself is what failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiscardMode {
    /// It may not: the discard is refused. The operator should fix the cause and retry the undo.
    Safe,
    /// It may: an operator has reversed the effects by hand.
    Force,
}

/// What became of an operator's action on a dead job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeadJobOutcome<T> {
    /// It is done.
    Done(T),
    /// This process lacks the saga's code, so the action is stored as a request, and a process that has the code carries
    /// it out. Until then the saga stays dead.
    Requested(ActionRequested),
}

impl<T> DeadJobOutcome<T> {
    /// The result of the action, if it is done.
    pub fn done(self) -> Option<T> {
        match self {
            Self::Done(done) => Some(done),
            Self::Requested(_) => None,
        }
    }

    /// Converts the result of an action that is done.
    pub fn map<U>(self, convert: impl FnOnce(T) -> U) -> DeadJobOutcome<U> {
        match self {
            Self::Done(done) => DeadJobOutcome::Done(convert(done)),
            Self::Requested(requested) => DeadJobOutcome::Requested(requested),
        }
    }
}

/// An action on a dead job that waits for a process with the code of its saga.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionRequested {
    /// The saga, which is still dead.
    pub saga_id: SagaId,
    /// The hash of the graph to which it belongs.
    pub graph_hash: String,
    /// Whether no live process that works on queues knows this graph. Then the request waits until one starts.
    pub waits_for_version: bool,
}

/// What an operator asked for on a dead job through a process that lacks the code of its saga.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadJobRequest {
    /// What is to be done.
    pub action: DeadJobAction,
    /// The operator.
    pub by: String,
    /// The reason that the operator gave.
    pub reason: String,
    /// When it was asked for.
    pub requested_at: DateTime<Utc>,
}

/// A request that was refused when a process with the code of the saga was to carry it out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedRequest {
    /// The request.
    #[serde(flatten)]
    pub request: DeadJobRequest,
    /// Why it was refused.
    pub why: String,
    /// When it was refused.
    pub refused_at: DateTime<Utc>,
}
