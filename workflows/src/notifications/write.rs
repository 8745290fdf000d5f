//! Writes notifications: many rows in one statement.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use engine::SagaId;
use serde_json::json;
use sqlx::PgConnection;
use sqlx_macros::FromRow;
use uuid::Uuid;

use super::status::NotificationStatus;
use crate::support::outbox::NewEvent;

/// A notification to be stored as pending.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewNotification<'a> {
    pub(crate) notification_id: Uuid,
    pub(crate) recipient: &'a str,
    pub(crate) subject: &'a str,
    pub(crate) text: &'a str,
    pub(crate) html: Option<&'a str>,
}

/// Stores notifications, and returns when each was accepted.
pub(crate) async fn insert(
    conn: &mut PgConnection,
    new: &[NewNotification<'_>],
) -> Result<HashMap<Uuid, DateTime<Utc>>, sqlx::Error> {
    let rows: Vec<(Uuid, DateTime<Utc>)> = sqlx::query_as(
        "insert into shop.notification (notification_id, recipient, subject, text, html)
         select n.notification_id, n.recipient, n.subject, n.text, n.html
         from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[])
              as n (notification_id, recipient, subject, text, html)
         returning notification_id, created_at",
    )
    .bind(new.iter().map(|one| one.notification_id).collect::<Vec<_>>())
    .bind(new.iter().map(|one| one.recipient).collect::<Vec<_>>())
    .bind(new.iter().map(|one| one.subject).collect::<Vec<_>>())
    .bind(new.iter().map(|one| one.text).collect::<Vec<_>>())
    .bind(new.iter().map(|one| one.html).collect::<Vec<_>>())
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().collect())
}

/// A new status of a notification.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress<'a> {
    pub(crate) notification_id: Uuid,
    pub(crate) status: NotificationStatus,
    /// The `Message-ID` and the server's reply, once the message is sent.
    pub(crate) sent: Option<(&'a str, &'a str)>,
}

impl Progress<'static> {
    /// The notification of this saga has this status now.
    pub(crate) fn to(saga_id: SagaId, status: NotificationStatus) -> Self {
        Self { notification_id: saga_id.0, status, sent: None }
    }
}

/// A notification whose status has changed.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct ChangedNotification {
    pub(crate) notification_id: Uuid,
    pub(crate) status: NotificationStatus,
    pub(crate) recipient: String,
    pub(crate) subject: String,
    pub(crate) message_id: Option<String>,
}

impl ChangedNotification {
    /// The event of a final status; `None` for the others.
    pub(crate) fn event(&self) -> Option<NewEvent> {
        let routing_key = match self.status {
            NotificationStatus::Sent => "notification.sent",
            NotificationStatus::Failed => "notification.failed",
            NotificationStatus::Pending | NotificationStatus::Sending | NotificationStatus::Cancelled => {
                return None;
            }
        };
        let payload = json!({
            "notification_id": self.notification_id,
            "status": self.status,
            "to": self.recipient,
            "subject": self.subject,
            "message_id": self.message_id,
        });
        Some(NewEvent::new(routing_key, &self.notification_id, &payload))
    }
}

/// Writes new statuses.
pub(crate) async fn record_progress(
    conn: &mut PgConnection,
    progress: &[Progress<'_>],
) -> Result<Vec<ChangedNotification>, sqlx::Error> {
    sqlx::query_as(
        "update shop.notification n
         set status = p.status, message_id = coalesce(p.message_id, n.message_id), reply = coalesce(p.reply, n.reply),
             updated_at = now()
         from unnest((select $1::uuid[]), $2::text[], $3::text[], $4::text[]) as p (notification_id, status, message_id, reply)
         where n.notification_id = p.notification_id
         returning n.notification_id, n.status, n.recipient, n.subject, n.message_id",
    )
    .bind(progress.iter().map(|one| one.notification_id).collect::<Vec<_>>())
    .bind(progress.iter().map(|one| one.status.name()).collect::<Vec<_>>())
    .bind(progress.iter().map(|one| one.sent.map(|(message_id, _)| message_id)).collect::<Vec<_>>())
    .bind(progress.iter().map(|one| one.sent.map(|(_, reply)| reply)).collect::<Vec<_>>())
    .fetch_all(conn)
    .await
}
