//! The JSON of notifications.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use shop::{mail_templates::TemplateDescription, notifications};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{Ref, RefOr, Schema, schema::OneOfBuilder},
};
use uuid::Uuid;

use crate::{
    http::documented_enum::documented_enum,
    resources::{page::list, workflows::StepOutcome},
};

documented_enum!(NotificationStatus, "The status of a notification.", notifications::NotificationStatus::ALL);

/// A mail and its delivery.
#[derive(Debug, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the JSON names its id so")]
pub(crate) struct Notification {
    pub(crate) notification_id: Uuid,
    /// The recipient.
    #[schema(example = "a@example.com")]
    pub(crate) to: String,
    pub(crate) subject: String,
    /// The body as plain text; null once it was deleted.
    pub(crate) text: Option<String>,
    /// The body as HTML, if there is one and it was not deleted.
    pub(crate) html: Option<String>,
    /// When `text` and `html` were deleted, because they are kept for a limited time (90 days unless set).
    pub(crate) text_deleted_at: Option<DateTime<Utc>>,
    #[schema(value_type = NotificationStatus)]
    pub(crate) status: notifications::NotificationStatus,
    /// The `Message-ID` of the mail, once it is sent. It is the same in every attempt, so that mail servers can
    /// recognise duplicates.
    pub(crate) message_id: Option<String>,
    /// The latest attempts, up to 100, oldest first. Times at which the mail only waited for an unavailable mail server
    /// are left out. Empty once the workflow was deleted.
    #[schema(max_items = 100)]
    pub(crate) attempts: Vec<NotificationAttempt>,
    /// The workflow that delivers it. It is deleted some time after its end; the notification stays.
    pub(crate) workflow_id: Uuid,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
}

/// One attempt to deliver a mail.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NotificationAttempt {
    /// The number of the attempt, from one; from one again after an operator has retried the mail.
    pub(crate) attempt: u32,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) duration_ms: i64,
    /// As in the workflow's history. An attempt that is `snoozed` tried for all that wait, and failed before its content
    /// was sent, which does not count as an attempt of its own.
    #[schema(value_type = StepOutcome)]
    pub(crate) outcome: engine::HistoryOutcome,
    /// The reply of the mail server, with its code, if there was one.
    #[schema(example = "250 OK, queued as 4BxY")]
    pub(crate) reply: Option<String>,
    /// The error with its causes, outermost first.
    pub(crate) error: Vec<String>,
}

/// A mail in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ListedNotification {
    pub(crate) notification_id: Uuid,
    /// The recipient.
    #[schema(example = "a@example.com")]
    pub(crate) to: String,
    pub(crate) subject: String,
    #[schema(value_type = NotificationStatus)]
    pub(crate) status: notifications::NotificationStatus,
    /// The `Message-ID` of the mail, once it is sent.
    pub(crate) message_id: Option<String>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
}

list!(NotificationList of ListedNotification, "A page of mails, newest first.");

/// A mail to be sent: written out, or from a template. It is one struct, so that errors name the field by its pointer;
/// in the OpenAPI document it is one of two.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewNotification {
    pub(crate) to: String,
    pub(crate) subject: Option<String>,
    pub(crate) text: Option<String>,
    pub(crate) html: Option<String>,
    pub(crate) template: Option<String>,
    pub(crate) variables: Option<Map<String, Value>>,
    pub(crate) dedup_key: Option<String>,
}

/// A mail that is written out.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it is only documented")]
struct WrittenNotification {
    /// The recipient's address.
    #[schema(format = "mail-address", example = "a@example.com")]
    to: String,
    /// The subject, one line.
    #[schema(format = "subject")]
    subject: String,
    /// The body as plain text.
    #[schema(format = "mail-text")]
    text: String,
    /// The body as HTML, sent as it is. The whole request may have 256 KiB; characters beyond ASCII take more than one
    /// byte.
    #[schema(format = "mail-html")]
    html: Option<String>,
    /// Of all mails with the same key only the first is sent, for a year after it unless set otherwise.
    #[schema(format = "dedup-key")]
    dedup_key: Option<String>,
}

/// A mail from a template.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it is only documented")]
struct TemplatedNotification {
    /// The recipient's address.
    #[schema(format = "mail-address", example = "a@example.com")]
    to: String,
    /// The name of a template; `GET /api/notification-templates` lists them.
    #[schema(example = "low-stock")]
    template: String,
    /// The variables of the template: all of them, and no others.
    variables: Map<String, Value>,
    /// Of all mails with the same key only the first is sent, for a year after it unless set otherwise.
    #[schema(format = "dedup-key")]
    dedup_key: Option<String>,
}

impl PartialSchema for NewNotification {
    fn schema() -> RefOr<Schema> {
        let members = [WrittenNotification::name(), TemplatedNotification::name()];
        let members = members.iter().map(|name| Ref::from_schema_name(name.as_ref()));
        let one_of = members.fold(OneOfBuilder::new(), OneOfBuilder::item);
        one_of.description(Some("A mail to be sent: written out, or from a template.")).into()
    }
}

impl ToSchema for NewNotification {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((WrittenNotification::name().into_owned(), WrittenNotification::schema()));
        schemas.push((TemplatedNotification::name().into_owned(), TemplatedNotification::schema()));
    }
}

/// A mail template.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NotificationTemplate {
    /// The name, for `template`.
    #[schema(example = "low-stock")]
    pub(crate) name: &'static str,
    /// When the template is used.
    pub(crate) description: &'static str,
    /// The JSON schema of `variables`.
    #[schema(value_type = Object)]
    pub(crate) variables: Value,
    /// Example variables.
    #[schema(value_type = Object)]
    pub(crate) example: Value,
    /// The subject that the example gives.
    pub(crate) subject: String,
}

list!(NotificationTemplateList of NotificationTemplate, "All templates.", "Always `null`: the list has no pages.");

impl From<notifications::Notification> for Notification {
    fn from(notification: notifications::Notification) -> Self {
        Self {
            notification_id: notification.notification_id,
            to: notification.to,
            subject: notification.subject,
            text: notification.text,
            html: notification.html,
            text_deleted_at: notification.text_deleted_at,
            status: notification.status,
            message_id: notification.message_id,
            attempts: notification.attempts.into_iter().map(Into::into).collect(),
            workflow_id: notification.workflow_id,
            created_at: notification.created_at,
            updated_at: notification.updated_at,
        }
    }
}

impl From<notifications::DeliveryAttempt> for NotificationAttempt {
    fn from(attempt: notifications::DeliveryAttempt) -> Self {
        let notifications::DeliveryAttempt { attempt, outcome, started_at, duration_ms, reply, error } =
            attempt;
        Self { attempt, started_at, duration_ms, outcome, reply, error }
    }
}

impl From<notifications::NotificationSummary> for ListedNotification {
    fn from(summary: notifications::NotificationSummary) -> Self {
        let notifications::NotificationSummary {
            notification_id,
            to,
            subject,
            status,
            message_id,
            created_at,
            updated_at,
        } = summary;
        Self { notification_id, to, subject, status, message_id, created_at, updated_at }
    }
}

impl From<&TemplateDescription> for NotificationTemplate {
    fn from(template: &TemplateDescription) -> Self {
        let TemplateDescription { name, description, variables, example, subject } = template.clone();
        Self { name, description, variables, example, subject }
    }
}

/// The example in the OpenAPI document.
pub(super) fn example() -> Value {
    json!({
        "notification_id": "0199f3a0-2222-7222-8333-444455556666",
        "to": "a@example.com",
        "subject": "Your order is confirmed",
        "text": "Thank you …",
        "html": null,
        "text_deleted_at": null,
        "status": "sent",
        "message_id": "<0199f3a0-2222-7222-8333-444455556666.send-mail@example.com>",
        "attempts": [
            {"attempt": 1, "started_at": "2026-11-22T10:00:00.005Z", "duration_ms": 31, "outcome": "done",
             "reply": "250 OK", "error": []}
        ],
        "workflow_id": "0199f3a0-2222-7222-8333-444455556666",
        "created_at": "2026-11-22T10:00:00.004567Z",
        "updated_at": "2026-11-22T10:00:00.036Z"
    })
}
