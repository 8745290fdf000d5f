//! Sends messages: checked at the edge, then handed to the `deliver-notification` saga.

use std::time::Duration;

use engine::{SagaId, StartError};
use serde_json::json;
use uuid::Uuid;

use super::{Notification, get};
use crate::{
    audit::{self, By, Change},
    sagas::deliver_notification::{DELIVER_NOTIFICATION, DeliverNotification},
    shop::Shop,
    violation::{self, Checker, Violation},
};

/// The longest dedup key, in characters.
const DEDUP_KEY_MAX: usize = 128;

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
        let mut checker = Checker::default();
        if let Some(key) = &self.dedup_key {
            checker.line("/dedup_key", key, 1, DEDUP_KEY_MAX);
        }
        let mut violations = self.message.violations();
        violations.extend(checker.done());
        violations
    }
}

/// A message that was accepted, now or before.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The message as it stands.
    pub notification: Notification,
    /// Whether the dedup key had been used: this is that message, and nothing else is sent.
    pub existing: bool,
}

/// A message was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
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
/// See [`SendError`].
///
/// # Cancel safety
/// Dropped early, the message may have been accepted; ask by its id.
pub async fn send(
    shop: &Shop,
    request: SendNotification,
    wait: Option<Duration>,
    by: impl Into<By<'_>>,
    trace: Option<String>,
) -> Result<Sent, SendError> {
    let violations = request.violations();
    if !violations.is_empty() {
        return Err(SendError::Invalid(violations));
    }
    record(shop, &request, &by.into()).await?;
    let SendNotification { notification_id, message, dedup_key } = request;
    let mut saga = DELIVER_NOTIFICATION.with(&message).id(SagaId(notification_id)).trace(trace);
    if let Some(key) = dedup_key {
        // Apart from the keys of the shop's own letters.
        saga = saga.business_key(format!("sent:{key}"));
    }
    let started = match wait {
        None => shop.engine().start(saga).await,
        Some(patience) => shop.engine().start_and_wait(saga, patience).await.map(|(started, _)| started),
    };
    let id = started.map_err(refused)?.saga_id.0;
    let notification = get(shop, id).await?.ok_or(SendError::Database(sqlx::Error::RowNotFound))?;
    Ok(Sent { notification, existing: id != notification_id })
}

/// That somebody asked for it. The saga's start is a commit of its own: so it is recorded before, that no message is
/// without its record.
async fn record(shop: &Shop, request: &SendNotification, by: &By<'_>) -> Result<(), sqlx::Error> {
    let subject = request.notification_id.to_string();
    let DeliverNotification { to, subject: line, .. } = &request.message;
    let asked = json!({"to": to, "subject": line, "dedup_key": request.dedup_key});
    let change = Change::of("notification.send", "notification", &subject).after(asked);
    audit::record(&mut *shop.pool().acquire().await?, by, &[change]).await
}

fn refused(error: StartError) -> SendError {
    match error {
        StartError::Refused(failure) => SendError::Invalid(violation::of_refusal(failure)),
        StartError::BadInput(reason) => SendError::Invalid(vec![Violation::new("", "bad-input", reason)]),
        StartError::UnknownDefinition(name) => {
            SendError::Unavailable(format!("no saga is named `{name}` here"))
        }
        StartError::Unavailable(reason) => SendError::Unavailable(reason),
    }
}
