//! Messages to people: what was written, to whom, and every attempt to deliver it.

mod rows;
mod send;

use chrono::{DateTime, Utc};
use engine::{HistoryEntry, HistoryOutcome, Page, SagaId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, Postgres, QueryBuilder};
use sqlx_macros::FromRow;
use uuid::Uuid;

use crate::{
    bounded_list::{self, ListError},
    mail,
    sagas::deliver_notification::SEND_MAIL,
    shop::Shop,
};

pub(crate) use rows::{ChangedNotification, NewNotification, Progress, insert, record_progress};
pub use send::{AcceptedNotification, SendError, SendNotification, send};

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NotificationStatus {
    /// It waits to be sent.
    Pending,
    /// It is being sent, or waits to be tried again.
    Sending,
    /// The mail server took it.
    Sent,
    /// It could not be sent; an operator can try again.
    Failed,
    /// It was called off before it was sent.
    Cancelled,
}

impl NotificationStatus {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Sending, Self::Sent, Self::Failed, Self::Cancelled];

    /// The stored name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Sending => "sending",
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl std::str::FromStr for NotificationStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|status| status.name() == text)
            .ok_or_else(|| format!("`{text}` is no notification status"))
    }
}

impl TryFrom<String> for NotificationStatus {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

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

/// So many attempts are given with a message.
pub const MAX_ATTEMPTS_SHOWN: u32 = 100;

/// Reads one message with its latest attempts.
///
/// # Errors
/// When the database refuses or is away.
pub async fn get(shop: &Shop, notification_id: Uuid) -> Result<Option<Notification>, sqlx::Error> {
    let Some(row) = read(shop.pool(), notification_id).await? else {
        return Ok(None);
    };
    let history =
        shop.engine().latest_attempts(SagaId(notification_id), SEND_MAIL, MAX_ATTEMPTS_SHOWN).await?;
    let Row { notification_id, recipient, subject, text, html, status, message_id, created_at, updated_at } =
        row;
    Ok(Some(Notification {
        notification_id,
        to: recipient,
        subject,
        text,
        html,
        status,
        attempts: history.into_iter().filter_map(attempt).collect(),
        workflow_id: notification_id,
        message_id,
        created_at,
        updated_at,
    }))
}

/// None where nothing was attempted: the breaker held the mail back.
fn attempt(entry: HistoryEntry) -> Option<DeliveryAttempt> {
    let was_held_back = entry.outcome == HistoryOutcome::Snoozed && mail::was_held_back(&entry.error);
    if entry.attempt == 0 || was_held_back {
        return None;
    }
    let HistoryEntry { attempt, outcome, started_at, duration_ms, output, error, .. } = entry;
    let said = output.as_ref().and_then(|output| output.get("reply")?.as_str());
    let reply = said.or_else(|| mail::reply_in(&error)).map(ToOwned::to_owned);
    Some(DeliveryAttempt { attempt, outcome, started_at, duration_ms, reply, error })
}

/// Lists the messages in a status, newest first by their ids.
///
/// It walks the primary key from its end, so that a rare status in a long history takes long; an index would cost every
/// delivery, whose updates could no longer stay on their page. Failed ones are found faster among the dead jobs.
///
/// # Errors
/// See [`ListError`].
pub async fn list(
    pool: &PgPool,
    status: NotificationStatus,
    page: Page,
) -> Result<Vec<NotificationSummary>, ListError> {
    let mut query = QueryBuilder::<Postgres>::new(
        "select notification_id, recipient, subject, status, message_id, created_at, updated_at
         from shop.notification where status = ",
    );
    query.push_bind(status.name());
    if let Some(after) = page.after {
        query.push(" and notification_id < ").push_bind(after);
    }
    query.push(" order by notification_id desc limit ").push_bind(i64::from(page.limit));
    bounded_list::read(pool, query).await
}

/// Reads where every message is, and its `Message-ID` once it is sent: for counting in a test or a bench, not for pages.
///
/// # Errors
/// When the database refuses or is away.
pub async fn ends(pool: &PgPool) -> Result<Vec<(NotificationStatus, Option<String>)>, sqlx::Error> {
    let rows: Vec<(String, Option<String>)> =
        sqlx::query_as("select status, message_id from shop.notification").fetch_all(pool).await?;
    rows.into_iter()
        .map(|(status, message_id)| {
            let status = status.parse().map_err(|error: String| sqlx::Error::Decode(error.into()))?;
            Ok((status, message_id))
        })
        .collect()
}

#[derive(FromRow)]
struct Row {
    notification_id: Uuid,
    recipient: String,
    subject: String,
    text: String,
    html: Option<String>,
    status: NotificationStatus,
    message_id: Option<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

async fn read(pool: &PgPool, notification_id: Uuid) -> Result<Option<Row>, sqlx::Error> {
    sqlx::query_as(
        "select notification_id, recipient, subject, text, html, status, message_id, created_at, updated_at
         from shop.notification where notification_id = $1",
    )
    .bind(notification_id)
    .fetch_optional(pool)
    .await
}
