//! The examples of dead jobs in the OpenAPI document.

use serde_json::{Value, json};

use super::request_body::request_example;

/// The example of a dead job with its payload.
pub(super) fn example() -> Value {
    with_payload(listed_example())
}

/// The example of an archived one with its payload.
pub(super) fn archived_example() -> Value {
    with_payload(listed_archived_example())
}

fn with_payload(mut job: Value) -> Value {
    job["payload"] = json!({"to": "a@example.com", "subject": "Your order is confirmed"});
    job
}

/// The example of a dead job in a list.
pub(super) fn listed_example() -> Value {
    json!({
        "dead_job_id": "0199f3a1-0000-7000-8000-00000000dead",
        "workflow_id": "0199f3a0-2222-7222-8333-444455556667",
        "definition": "deliver-notification",
        "queue": "notifications",
        "step": "send-mail",
        "direction": "action",
        "attempts": 8,
        "error": "the mail server does not answer",
        "errors": [{
            "attempt": 1,
            "at": "2026-11-22T10:00:00Z",
            "outcome": "retry",
            "error": ["the mail server does not answer", "connection refused"]
        }],
        "first_failed_at": "2026-11-22T10:00:00Z",
        "died_at": "2026-11-22T10:05:00Z",
        "expires_at": null,
        "resolution": null,
        "resolved_by": null,
        "resolved_reason": null,
        "resolved_at": null,
        "requested": request_example(),
        "request_refused": null
    })
}

/// The example of an archived one in a list.
pub(super) fn listed_archived_example() -> Value {
    let mut job = listed_example();
    (job["expires_at"], job["requested"]) = (json!("2026-12-22T10:05:00Z"), Value::Null);
    job["archived_at"] = json!("2026-12-22T10:05:20Z");
    job["why"] = json!("expired");
    job
}
