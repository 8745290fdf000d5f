//! Dead jobs: what is out of attempts and waits for a person.

mod act;
mod archive;
mod body;
mod discard_many;
mod read;
mod retry_many;
mod summary;

use serde_json::{Value, json};

pub(crate) use act::{__path_discard_dead_job, __path_retry_dead_job, discard_dead_job, retry_dead_job};
pub(crate) use archive::{
    __path_get_archived_dead_job, __path_list_archived_dead_jobs, get_archived_dead_job,
    list_archived_dead_jobs,
};
pub(crate) use discard_many::{__path_discard_dead_jobs, discard_dead_jobs};
pub(crate) use read::{__path_get_dead_job, __path_list_dead_jobs, get_dead_job, list_dead_jobs};
pub(crate) use retry_many::{__path_retry_dead_jobs, retry_dead_jobs};
pub(crate) use summary::{__path_summarize_dead_jobs, summarize_dead_jobs};

fn example() -> Value {
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
        "payload": {"to": "a@example.com", "subject": "Your order is confirmed"},
        "first_failed_at": "2026-11-22T10:00:00Z",
        "died_at": "2026-11-22T10:05:00Z",
        "expires_at": null,
        "resolution": null,
        "resolved_by": null,
        "resolved_reason": null,
        "resolved_at": null
    })
}
