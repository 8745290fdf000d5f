//! Notifications: mails, and every attempt to deliver them.

mod body;
mod create;
mod read;
mod templates;

use serde_json::{Value, json};

pub(crate) use create::{__path_create_notification, create_notification};
pub(crate) use read::{
    __path_get_notification, __path_list_notifications_by_status, get_notification,
    list_notifications_by_status,
};
pub(crate) use templates::{__path_list_notification_templates, list_notification_templates};

fn example() -> Value {
    json!({
        "notification_id": "0199f3a0-2222-7222-8333-444455556666",
        "to": "a@example.com",
        "subject": "Your order is confirmed",
        "text": "Thank you …",
        "html": null,
        "status": "sent",
        "message_id": "<0199f3a0-2222-7222-8333-444455556666.send-mail@sagaline>",
        "attempts": [
            {"attempt": 1, "started_at": "2026-11-22T10:00:00.005Z", "duration_ms": 31, "outcome": "done",
             "reply": "250 OK", "error": []}
        ],
        "workflow_id": "0199f3a0-2222-7222-8333-444455556666",
        "created_at": "2026-11-22T10:00:00.004567Z",
        "updated_at": "2026-11-22T10:00:00.036Z"
    })
}
