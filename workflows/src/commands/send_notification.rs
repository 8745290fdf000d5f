//! Sends messages: checked at the edge, then handed to the `deliver-notification` saga.

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

/// A message to be sent.
#[derive(Clone, Debug)]
pub struct SendNotification {
    /// Its id; sending the same id twice sends one message.
    pub notification_id: Uuid,
    /// What to send to whom.
    pub message: DeliverNotification,
    /// Of all messages with the same key only the first is sent, for ever.
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
    /// The message as it stands.
    pub notification: Notification,
    /// Whether the dedup key had been used: this is that message, and nothing else is sent.
    pub existing: bool,
}

/// A message was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum SendNotificationError {
    /// The request is wrong.
    #[error("the request is wrong")]
    Invalid(Vec<Violation>),
    /// Not now: try again, with the same id.
    #[error("messages can't be accepted now: {0}")]
    Unavailable(String),
    /// The database refused or is away; the message may have been accepted.
    #[error("the database refused")]
    Database(#[from] sqlx::Error),
}

/// Accepts a message and gives it as it stands: durable when this returns, and at rest if that took no longer than
/// `wait`. It is sent at least once, under one `Message-ID`.
///
/// # Errors
/// See [`SendNotificationError`].
///
/// # Cancel safety
/// Dropped early, the message may have been accepted; ask by its id.
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
    if let Some(patience) = wait {
        shop.engine().wait(started.saga_id, patience).await?;
    }
    let id = started.saga_id.0;
    let notification = notifications::get(shop.engine(), id)
        .await?
        .ok_or(SendNotificationError::Database(sqlx::Error::RowNotFound))?;
    Ok(AcceptedNotification { notification, existing: id != request.notification_id })
}

/// Starts the delivery, and records in the same commit who asked for it: no message is without its record, and there is
/// no record of a message that was refused, or of one that is there already.
async fn start(
    shop: &Shop,
    request: &SendNotification,
    by: &AuditActor<'_>,
    trace: Option<String>,
) -> Result<Started, SendNotificationError> {
    let SendNotification { notification_id, message, dedup_key } = request;
    let mut saga = DELIVER_NOTIFICATION.with(message).id(SagaId(*notification_id)).trace(trace);
    if let Some(key) = dedup_key {
        // Apart from the keys of the shop's own letters.
        saga = saga.business_key(format!("{SENT}{key}"));
    }
    let mut tx = shop.pool().begin().await?;
    let answers = shop.engine().start_in(&mut tx, vec![saga]).await.map_err(|error| match error {
        StepError::Database(error) => SendNotificationError::Database(error),
        error @ (StepError::Start(_) | StepError::Other(_)) => {
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
        StartError::BadInput(reason) => {
            SendNotificationError::Invalid(vec![Violation::new("", "bad-input", reason)])
        }
        StartError::UnknownDefinition(name) => {
            SendNotificationError::Unavailable(format!("no saga is named `{name}` here"))
        }
        StartError::Unavailable(reason) => SendNotificationError::Unavailable(reason),
    }
}
