//! Notifications: mails, and every attempt to deliver them.

use ::workflows::notifications as shop;
use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    answer::Answer,
    problem::{
        Problem,
        answers::{ONE, STORED, problems},
    },
    request::{IdPath, Query},
    state::ApiState,
};

problems!(Problems: ONE, STORED);

/// Where a notification is.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NotificationStatus {
    /// It waits to be sent.
    Pending,
    /// It is being sent, or waits to be tried again.
    Sending,
    /// The mail server took it.
    Sent,
    /// It could not be sent; an operator can retry its dead job.
    Failed,
    /// It was called off before it was sent.
    Cancelled,
}

/// A mail and what became of it.
#[derive(Debug, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the JSON names its id so")]
pub(crate) struct Notification {
    pub(crate) notification_id: Uuid,
    /// Where it goes.
    #[schema(example = "a@example.com")]
    pub(crate) to: String,
    pub(crate) subject: String,
    pub(crate) text: String,
    pub(crate) html: Option<String>,
    pub(crate) status: NotificationStatus,
    /// The mail's `Message-ID`, once it is sent; every attempt has the same, so that mail servers can tell repetitions.
    pub(crate) message_id: Option<String>,
    /// Every attempt, oldest first.
    pub(crate) attempts: Vec<NotificationAttempt>,
    /// The workflow that delivers it.
    pub(crate) workflow_id: Uuid,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
}

/// One attempt to deliver a mail.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NotificationAttempt {
    /// From one; again from one when an operator has retried it.
    pub(crate) attempt: u32,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) duration_ms: i64,
    /// As in the workflow's history: `started`, `done`, `retry`, `postponed`, `failed`, `lost` or `exhausted`.
    #[schema(example = "done")]
    pub(crate) outcome: &'static str,
    /// The error with its causes, outermost first.
    pub(crate) error: Vec<String>,
}

/// Read a notification
///
/// With every attempt to deliver it. A mail is delivered at least once, with a `Message-ID` that never changes.
#[utoipa::path(
    get,
    path = "/api/notifications/{notification_id}",
    tag = "notifications",
    params(("notification_id" = Uuid, Path, description = "The notification")),
    responses(
        (status = 200, description = "The notification", body = Notification, example = json!(example())),
        Problems
    )
)]
pub(crate) async fn get_notification(
    State(state): State<ApiState>,
    IdPath(id): IdPath,
    Query(()): Query<()>,
) -> Result<Response, Problem> {
    let found = shop::get(state.shop(), id).await?;
    let notification = found.ok_or_else(|| Problem::not_found("notification", id))?;
    Ok(Answer::ok(&Notification::from(notification))?.into_response())
}

impl From<shop::Notification> for Notification {
    fn from(notification: shop::Notification) -> Self {
        Self {
            notification_id: notification.notification_id,
            to: notification.to,
            subject: notification.subject,
            text: notification.text,
            html: notification.html,
            status: notification.status.into(),
            message_id: notification.message_id,
            attempts: notification.attempts.into_iter().map(Into::into).collect(),
            workflow_id: notification.workflow_id,
            created_at: notification.created_at,
            updated_at: notification.updated_at,
        }
    }
}

impl From<shop::DeliveryAttempt> for NotificationAttempt {
    fn from(attempt: shop::DeliveryAttempt) -> Self {
        let shop::DeliveryAttempt { attempt, outcome, started_at, duration_ms, error } = attempt;
        Self { attempt, started_at, duration_ms, outcome: outcome.name(), error }
    }
}

impl From<shop::NotificationStatus> for NotificationStatus {
    fn from(status: shop::NotificationStatus) -> Self {
        match status {
            shop::NotificationStatus::Pending => Self::Pending,
            shop::NotificationStatus::Sending => Self::Sending,
            shop::NotificationStatus::Sent => Self::Sent,
            shop::NotificationStatus::Failed => Self::Failed,
            shop::NotificationStatus::Cancelled => Self::Cancelled,
        }
    }
}

fn example() -> Value {
    json!({
        "notification_id": "0199f3a0-2222-7222-8333-444455556666",
        "to": "a@example.com",
        "subject": "Your order is confirmed",
        "text": "Thank you …",
        "html": null,
        "status": "sent",
        "message_id": "<0199f3a0-2222-7222-8333-444455556667.send-mail@sagaline>",
        "attempts": [
            {"attempt": 1, "started_at": "2026-11-22T10:00:00.005Z", "duration_ms": 31, "outcome": "done", "error": []}
        ],
        "workflow_id": "0199f3a0-2222-7222-8333-444455556667",
        "created_at": "2026-11-22T10:00:00.004567Z",
        "updated_at": "2026-11-22T10:00:00.036Z"
    })
}
