//! The JSON of signals.

use chrono::{DateTime, Utc};
use engine::{Signal, SignalReceipt, SignalState, SignalView};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    http::{JsonResponse, Problem, documented_enum::documented_enum},
    resources::page::list,
};

/// A signal for a workflow.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WorkflowSignal {
    /// The message, valid by the `message_schema` of the step that waits for it.
    pub(super) message: Value,
    /// Makes sending idempotent: the workflow takes one signal of this name and key, for as long as it is kept.
    #[schema(min_length = 1, max_length = 200, pattern = "^[^\\u0000]*$", example = "payment-17")]
    pub(super) key: Option<String>,
}

/// The signal of a request.
pub(super) fn signal(name: &str, message: &Value, key: Option<String>) -> Signal {
    let signal = Signal::untyped(name, message);
    match key {
        Some(key) => signal.key(key),
        None => signal,
    }
}

documented_enum!(
    WorkflowSignalState,
    "How far a signal has come: it is `buffered` until a wait takes it, now or when the workflow comes to it; it was \
     `consumed`; it was `too_late`, because the workflow had passed the last wait for it, or ended; or the code of the \
     workflow that looked at it found its message `unreadable`, so that only other code may take it.",
    engine::SignalState::ALL
);

/// A signal that is stored.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkflowSignalReceipt {
    /// The workflow for which it is.
    workflow_id: Uuid,
    /// The name of the signal.
    name: String,
    #[schema(value_type = WorkflowSignalState)]
    state: SignalState,
    /// Whether it was sent before with this key, so that nothing was stored now.
    replayed: bool,
}

impl WorkflowSignalReceipt {
    /// The response to a signal: a 200 for one that was sent before.
    pub(super) fn response(receipt: SignalReceipt, name: String) -> Result<JsonResponse, Problem> {
        let SignalReceipt { saga_id, state, replayed } = receipt;
        let status = if replayed { StatusCode::OK } else { StatusCode::ACCEPTED };
        let body = Self { workflow_id: saga_id.0, name, state, replayed };
        Ok(JsonResponse::new(status, &body)?.location(format!("/api/workflows/{saga_id}")))
    }
}

/// A signal that was sent to a workflow, without its message.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ListedSignal {
    /// The name of the signal.
    #[schema(example = "payment-received")]
    name: String,
    /// Its key; one that was made if the sender gave none.
    #[schema(example = "payment-17")]
    key: String,
    #[schema(value_type = WorkflowSignalState)]
    state: SignalState,
    /// Who sent it, if that is known.
    sender: Option<String>,
    created_at: DateTime<Utc>,
    /// When it was consumed, or found too late or unreadable; `null` while it is buffered.
    settled_at: Option<DateTime<Utc>>,
    /// The number of the entry of the history that consumed it.
    history_seq: Option<i32>,
}

list!(WorkflowSignalList of ListedSignal, "A page of the signals of a workflow, oldest first.");

impl From<SignalView> for ListedSignal {
    fn from(signal: SignalView) -> Self {
        let SignalView { id: _, name, key, state, sender, created_at, settled_at, history_seq } = signal;
        Self { name, key, state, sender, created_at, settled_at, history_seq }
    }
}

/// The example of a signal in a list.
pub(super) fn listed_example() -> Value {
    json!({
        "name": "payment-received",
        "key": "payment-17",
        "state": "consumed",
        "sender": "key:payments",
        "created_at": "2026-11-22T10:00:00.000123Z",
        "settled_at": "2026-11-22T10:00:00.005Z",
        "history_seq": 2
    })
}

/// An example in the OpenAPI document.
pub(super) fn example(replayed: bool) -> Value {
    json!({
        "workflow_id": "0199f3a0-5c1e-7d2b-9a43-0f6f4a1c2b3e",
        "name": "payment-received",
        "state": if replayed { "consumed" } else { "buffered" },
        "replayed": replayed
    })
}
