//! Notifications as they are shown.

use chrono::{DateTime, Utc};
use engine::{HistoryEntry, HistoryOutcome};
use serde::Serialize;
use sqlx_macros::FromRow;
use uuid::Uuid;

use super::status::NotificationStatus;
use crate::mail::AttemptDetails;

/// A message, and how its delivery goes.
#[derive(Clone, Debug, Serialize)]
pub struct Notification {
    /// Its id.
    pub notification_id: Uuid,
    /// The recipient's address.
    pub to: String,
    /// Its subject.
    pub subject: String,
    /// Its text.
    pub text: String,
    /// The same as HTML, if there is one.
    pub html: Option<String>,
    /// Where it is.
    pub status: NotificationStatus,
    /// The latest attempts to send it, up to a hundred, oldest first.
    pub attempts: Vec<DeliveryAttempt>,
    /// The saga that delivers it.
    pub workflow_id: Uuid,
    /// Its `Message-ID`, once it is sent; the same in every attempt.
    pub message_id: Option<String>,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// When its status changed last.
    pub updated_at: DateTime<Utc>,
}

/// One attempt to send a message.
#[derive(Clone, Debug, Serialize)]
pub struct DeliveryAttempt {
    /// Counted from one; again from one when an operator has retried it.
    pub attempt: u32,
    /// What it came to.
    pub outcome: HistoryOutcome,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// How long it took.
    pub duration_ms: i64,
    /// What the mail server said, its code first, if it said something.
    pub reply: Option<String>,
    /// What went wrong, outermost first.
    pub error: Vec<String>,
}

/// A message in a list: without its text and its attempts.
#[derive(Clone, Debug, Serialize, FromRow)]
pub struct NotificationSummary {
    /// Its id.
    pub notification_id: Uuid,
    /// The recipient's address.
    #[sqlx(rename = "recipient")]
    pub to: String,
    /// Its subject.
    pub subject: String,
    /// Where it is.
    pub status: NotificationStatus,
    /// Its `Message-ID`, once it is sent.
    pub message_id: Option<String>,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// When its status changed last.
    pub updated_at: DateTime<Utc>,
}

/// None where nothing was attempted: the breaker held the mail back.
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
