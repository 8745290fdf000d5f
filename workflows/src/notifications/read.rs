//! Reads notifications.

use chrono::{DateTime, Utc};
use engine::{Engine, ListError, Page, PageOf, SagaId};
use sqlx::PgPool;
use sqlx_macros::FromRow;
use uuid::Uuid;

use super::{
    message::SEND_MAIL,
    notification::{Notification, NotificationSummary, attempt},
    status::NotificationStatus,
};
use crate::support::bounded_list::by_status::StatusTable;

/// The most attempts that are returned with a notification.
pub const MAX_ATTEMPTS_SHOWN: u32 = 100;

/// Reads one notification with its latest attempts.
///
/// # Errors
/// When the database refuses or can't be reached.
pub async fn get(engine: &Engine, notification_id: Uuid) -> Result<Option<Notification>, sqlx::Error> {
    let Some(row) = read(engine.pool(), notification_id).await? else {
        return Ok(None);
    };
    let history = engine.latest_attempts(SagaId(notification_id), SEND_MAIL, MAX_ATTEMPTS_SHOWN).await?;
    let Row {
        notification_id,
        recipient,
        subject,
        text,
        html,
        text_deleted_at,
        status,
        message_id,
        created_at,
        updated_at,
    } = row;
    Ok(Some(Notification {
        notification_id,
        to: recipient,
        subject,
        text: text_deleted_at.is_none().then_some(text),
        html,
        text_deleted_at,
        status,
        attempts: history.into_iter().filter_map(attempt).collect(),
        workflow_id: notification_id,
        message_id,
        created_at,
        updated_at,
    }))
}

/// Lists the notifications in a status, newest first by their ids.
///
/// # Errors
/// See [`ListError`]; a list that does not [scan](NotificationStatus::may_scan) never times out.
pub async fn list(
    pool: &PgPool,
    status: NotificationStatus,
    page: Page,
) -> Result<PageOf<NotificationSummary>, ListError> {
    NOTIFICATIONS.read(pool, status.path(), status.name(), page).await
}

const NOTIFICATIONS: StatusTable = StatusTable {
    columns: "r.notification_id, r.recipient, r.subject, r.status, r.message_id, r.created_at, r.updated_at",
    table: "shop.notification",
    key: "notification_id",
    recorded: "shop.notification_by_status",
    recorded_through: "null::timestamptz",
    moved_by: ("'deliver-notification'", "s.id"),
};

/// Reads the status of every notification, and its `Message-ID` once it is sent. It is for tests and benches, which
/// count them; it has no pages.
///
/// # Errors
/// When the database refuses or can't be reached.
pub async fn statuses(pool: &PgPool) -> Result<Vec<(NotificationStatus, Option<String>)>, sqlx::Error> {
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
    text_deleted_at: Option<DateTime<Utc>>,
    status: NotificationStatus,
    message_id: Option<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

async fn read(pool: &PgPool, notification_id: Uuid) -> Result<Option<Row>, sqlx::Error> {
    sqlx::query_as(
        "select notification_id, recipient, subject, text, html, text_deleted_at, status, message_id, created_at, updated_at
         from shop.notification where notification_id = $1",
    )
    .bind(notification_id)
    .fetch_optional(pool)
    .await
}
