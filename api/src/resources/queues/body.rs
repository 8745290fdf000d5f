//! The JSON of queues.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use utoipa::ToSchema;

use crate::{
    resources::{page::list, versioned::Versioned},
    state::ApiState,
};

/// A queue, whether it is paused, and what waits in it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Queue {
    pub(crate) name: String,
    /// Whether the queue is paused: no work in it is begun.
    pub(crate) paused: bool,
    /// Who paused the queue.
    pub(crate) paused_by: Option<String>,
    /// Why it was paused.
    pub(crate) reason: Option<String>,
    /// When it was last paused or resumed; `null` if it never was.
    pub(crate) since: Option<DateTime<Utc>>,
    /// Workflows that are due and not being worked on.
    pub(crate) due: i64,
    /// Workflows that are due later.
    pub(crate) waiting: i64,
    /// Workflows being worked on.
    pub(crate) leased: i64,
    /// How long the oldest due workflow has waited, in milliseconds.
    pub(crate) oldest_due_ms: i64,
}

list!(QueueList of Queue, "All queues.", "Always `null`: the list has no pages.");

/// The desired state of a queue.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueueUpdate {
    /// `true` pauses it, `false` resumes it.
    pub(crate) paused: bool,
    /// The reason, for the audit; required to pause.
    #[schema(min_length = 1, format = "reason", example = "the mail server moves")]
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

impl Versioned for engine::QueueView {
    const NOUN: &'static str = "queue";
    type Id = str;
    type Body = Queue;

    fn version(&self) -> i64 {
        self.version
    }

    async fn find(state: &ApiState, name: &str) -> Result<Option<Self>, sqlx::Error> {
        Ok(state.engine().queues().await?.into_iter().find(|queue| queue.name == name))
    }
}

/// The example in the OpenAPI document.
pub(super) fn example() -> Value {
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
