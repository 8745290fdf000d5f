//! Notifications as they are shown.

use chrono::{DateTime, Utc};
use engine::{HistoryEntry, HistoryOutcome};
use serde::Serialize;
use sqlx_macros::FromRow;
use uuid::Uuid;

use super::status::NotificationStatus;
use crate::mail::AttemptDetails;

/// A notification and the progress of its delivery.
#[derive(Clone, Debug, Serialize)]
pub struct Notification {
    /// The notification's id.
    pub notification_id: Uuid,
    /// The recipient's address.
    pub to: String,
    /// The subject.
    pub subject: String,
    /// The body as text; `None` once it was deleted.
    pub text: Option<String>,
    /// The body as HTML, if there is one and it was not deleted.
    pub html: Option<String>,
    /// When the bodies were deleted because their time was over.
    pub text_deleted_at: Option<DateTime<Utc>>,
    /// The status of the delivery.
    pub status: NotificationStatus,
    /// The latest attempts to send it, up to a hundred, oldest first. None once the saga was deleted.
    pub attempts: Vec<DeliveryAttempt>,
    /// The saga that delivers it.
    pub workflow_id: Uuid,
    /// The `Message-ID`, once the message is sent; it is the same in every attempt.
    pub message_id: Option<String>,
    /// When the notification was accepted.
    pub created_at: DateTime<Utc>,
    /// When the status last changed.
    pub updated_at: DateTime<Utc>,
}

/// One attempt to send a message.
#[derive(Clone, Debug, Serialize)]
pub struct DeliveryAttempt {
    /// The number of the attempt; it starts again at 1 when an operator retries the delivery.
    pub attempt: u32,
    /// The outcome of the attempt.
    pub outcome: HistoryOutcome,
    /// When the attempt started.
    pub started_at: DateTime<Utc>,
    /// How long the attempt took, in milliseconds.
    pub duration_ms: i64,
    /// The mail server's reply, its code first, if there was one.
    pub reply: Option<String>,
    /// The error and its causes, outermost first.
    pub error: Vec<String>,
}

/// A notification in a list: without its bodies and attempts.
#[derive(Clone, Debug, Serialize, FromRow)]
pub struct NotificationSummary {
    /// The notification's id.
    pub notification_id: Uuid,
    /// The recipient's address.
    #[sqlx(rename = "recipient")]
    pub to: String,
    /// The subject.
    pub subject: String,
    /// The status of the delivery.
    pub status: NotificationStatus,
    /// The `Message-ID`, once the message is sent.
    pub message_id: Option<String>,
    /// When the notification was accepted.
    pub created_at: DateTime<Utc>,
    /// When the status last changed.
    pub updated_at: DateTime<Utc>,
}

/// `None` if nothing was attempted, because the breaker was open.
pub(super) fn attempt(entry: HistoryEntry) -> Option<DeliveryAttempt> {
    let HistoryEntry { attempt, outcome, started_at, duration_ms, output, error, details, .. } = entry;
    let details = details.as_ref().and_then(AttemptDetails::read);
    if attempt == 0 || details.as_ref().is_some_and(AttemptDetails::was_held_back) {
        return None;
    }
    let accepted = output.as_ref().and_then(|output| Some(output.get("reply")?.as_str()?.to_owned()));
    let reply = accepted.or_else(|| details?.reply());
    Some(DeliveryAttempt { attempt, outcome, started_at, duration_ms, reply, error })
}
