//! Accepts messages: checks them and starts a `deliver-notification` saga for each.

use std::time::Duration;

use engine::{SagaId, StartError, Started, StepError};
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::shop::Shop;
use crate::{
    notifications::{self, DELIVER_NOTIFICATION, DeliverNotification, Notification},
    sagas::SENT,
    support::{
        audit::{self, AuditActor, AuditEntry},
        bounds::DEDUP_KEY,
        validator::Validator,
        violation::{self, Violation},
    },
};

/// A message to send.
#[derive(Clone, Debug)]
pub struct SendNotification {
    /// The id of the notification; the same id twice sends one message.
    pub notification_id: Uuid,
    /// The message and its recipient.
    pub message: DeliverNotification,
    /// Of all messages with the same key only the first is sent, for as long as the engine keeps the key.
    pub dedup_key: Option<String>,
}

impl SendNotification {
    fn violations(&self) -> Vec<Violation> {
        let mut validator = Validator::default();
        if let Some(key) = &self.dedup_key {
            validator.text("/dedup_key", key, DEDUP_KEY);
        }
        let mut violations = self.message.violations();
        violations.extend(validator.done());
        violations
    }
}

/// A message that was accepted, now or before.
#[derive(Clone, Debug)]
pub struct AcceptedNotification {
    /// The notification in its current state.
    pub notification: Notification,
    /// Whether the dedup key had been used before. Then this is the earlier message, and no other is sent.
    pub existing: bool,
}

/// A message was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum SendNotificationError {
    /// The request is invalid.
    #[error("the request is wrong")]
    Invalid(Vec<Violation>),
    /// The message can't be accepted now: the caller should try again with the same id.
    #[error("messages can't be accepted now: {0}")]
    Unavailable(String),
    /// The database refused or can't be reached; the message may have been accepted.
    #[error("the database refused")]
    Database(#[from] sqlx::Error),
}

/// Accepts a message and returns the notification in its current state. The message is durable when this returns; the
/// call waits up to `wait` for the end of its delivery. It is sent at least once, always with the same `Message-ID`.
///
/// # Errors
/// See [`SendNotificationError`].
///
/// # Cancel safety
/// A dropped call may have accepted the message; its id finds it.
pub async fn send_notification(
    shop: &Shop,
    request: SendNotification,
    wait: Option<Duration>,
    by: impl Into<AuditActor<'_>>,
    trace: Option<String>,
) -> Result<AcceptedNotification, SendNotificationError> {
    let violations = request.violations();
    if !violations.is_empty() {
        return Err(SendNotificationError::Invalid(violations));
    }
    let started = start(shop, &request, &by.into(), trace).await?;
    // A delivery that was deleted has ended.
    if let Some(patience) = wait.filter(|_| started.key_kept_until.is_none()) {
        shop.engine().wait(started.saga_id, patience).await?;
    }
    let id = started.saga_id.0;
    let notification = notifications::get(shop.engine(), id)
        .await?
        .ok_or(SendNotificationError::Database(sqlx::Error::RowNotFound))?;
    Ok(AcceptedNotification { notification, existing: id != request.notification_id })
}

/// Starts the delivery, and records in the same commit who asked for it. A refused message gets no record, and a
/// message that exists already gets no second one.
async fn start(
    shop: &Shop,
    request: &SendNotification,
    by: &AuditActor<'_>,
    trace: Option<String>,
) -> Result<Started, SendNotificationError> {
    let SendNotification { notification_id, message, dedup_key } = request;
    let mut saga = DELIVER_NOTIFICATION.with(message).id(SagaId(*notification_id)).trace(trace);
    if let Some(key) = dedup_key {
        // The prefix keeps callers' keys apart from the keys of the shop's own mails.
        saga = saga.business_key(format!("{SENT}{key}"));
    }
    let mut tx = shop.pool().begin().await?;
    let answers = shop.engine().start_in(&mut tx, vec![saga]).await.map_err(|error| match error {
        StepError::Database(error) => SendNotificationError::Database(error),
        error @ (StepError::Start(_) | StepError::OutputTooLarge(_) | StepError::Other(_)) => {
            SendNotificationError::Unavailable(error.to_string())
        }
    })?;
    let nothing = || Err(StartError::Unavailable("no answer".into()));
    let started = answers.into_iter().next().unwrap_or_else(nothing).map_err(refused)?;
    if !started.existing {
        record(&mut tx, request, by).await?;
    }
    tx.commit().await?;
    Ok(started)
}

async fn record(
    conn: &mut PgConnection,
    request: &SendNotification,
    by: &AuditActor<'_>,
) -> Result<(), sqlx::Error> {
    let subject = request.notification_id.to_string();
    let DeliverNotification { to, subject: line, .. } = &request.message;
    let asked = json!({"to": to, "subject": line, "dedup_key": request.dedup_key});
    let change = AuditEntry::new("notification.send", "notification", &subject).after(asked);
    audit::record(conn, by, &[change]).await
}

fn refused(error: StartError) -> SendNotificationError {
    match error {
        StartError::Refused(failure) => SendNotificationError::Invalid(violation::of_refusal(failure)),
        StartError::BadInput { pointer, reason } => {
            SendNotificationError::Invalid(vec![Violation::new(pointer, "bad-input", reason)])
        }
        error @ StartError::InputTooLarge { .. } => {
            SendNotificationError::Invalid(vec![Violation::new("", "too-large", error.to_string())])
        }
        StartError::UnknownDefinition(name) => {
            SendNotificationError::Unavailable(format!("no saga is named `{name}` here"))
        }
        StartError::Unavailable(reason) => SendNotificationError::Unavailable(reason),
    }
}
