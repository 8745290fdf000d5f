//! Delivers one message: stores it in the commit that accepts it, sends it, and records that it was sent. It can be
//! cancelled until sending begins; a sent mail can't be undone, so from there the saga only goes forward.
//!
//! ```text
//! store-notification ── begin-delivery ── send-mail ── record-delivery
//!   undo: call off         pivot            call        forward only
//! ```

mod status_sync;

use std::time::Duration;

use chrono::{DateTime, Utc};
use engine::{
    Batch, CallError, CallStep, Definition, Direction, Failure, ForwardOnly, GraphError, Item, Outcome,
    Outcomes, Retry, RetryPolicy, Saga, SagaId, StepError, TransactionStep, Tx, UndoBatch, UndoOutcome,
    UndoOutcomes, UndoTransaction,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use self::status_sync::StatusSync;
use crate::{
    mail::{Mail, MailError, Mailer},
    notifications::{
        self, DELIVER_NOTIFICATION, DeliverNotification, NewNotification, NotificationStatus,
        OWN_MAIL_FACTOR, Progress, QUEUE, SEND_MAIL,
    },
    support::{outbox, violation::Violation},
};

/// The default retries of sending: for about two hours, because a mailbox can be full, and greylisting providers defer
/// mails for longer than other calls take to recover. An attempt may take two minutes, because a server that has the
/// whole mail may take long to confirm it, and a mail that is given up then arrives twice.
pub const SEND_MAIL_RETRY: RetryPolicy = RetryPolicy {
    first_delay: Duration::from_secs(1),
    factor: 3.0,
    max_delay: Duration::from_mins(30),
    attempts: 14,
    timeout: Duration::from_mins(2),
    max_postponed: RetryPolicy::MAX_POSTPONED,
};

/// Builds the definition.
pub(crate) fn saga(mailer: Mailer, send_mail_retry: RetryPolicy) -> Result<Definition, GraphError> {
    let begin = BeginDelivery { sender_domain: mailer.sender_domain().into() };
    let mut saga = Saga::named(DELIVER_NOTIFICATION)
        .queue(QUEUE)
        .observed_by(StatusSync)
        .entry(StoreNotification)
        .pivot(begin)
        .then_call(SendMail { mailer })
        .then(RecordDelivery)
        .build()?;
    saga.set_policy(SEND_MAIL, Direction::Action, send_mail_retry).map_err(|reason| {
        GraphError::BadPolicy { saga: DELIVER_NOTIFICATION.name().into(), step: SEND_MAIL.into(), reason }
    })?;
    Ok(saga)
}

/// Stores the message. Its undo cancels the notification.
struct StoreNotification;

/// The output of `store-notification`: when the message was stored, which is the date of the mail.
#[derive(Serialize, Deserialize)]
struct Stored {
    at: DateTime<Utc>,
}

impl TransactionStep for StoreNotification {
    const NAME: &'static str = "store-notification";
    type Input = DeliverNotification;
    type Output = Stored;
    type Undo = Self;

    async fn run(
        &self,
        tx: &mut Tx<'_>,
        batch: &Batch<DeliverNotification>,
    ) -> Result<Outcomes<Stored>, StepError> {
        let wrong: Vec<Vec<Violation>> =
            batch.iter().map(|item| item.input.violations_within(OWN_MAIL_FACTOR)).collect();
        let new: Vec<NewNotification<'_>> = batch
            .iter()
            .zip(&wrong)
            .filter(|(_, wrong)| wrong.is_empty())
            .map(|(item, _)| row(item))
            .collect();
        let stored = notifications::insert(tx, &new).await?;
        let mut wrong = wrong.into_iter();
        Ok(batch.decide(|item| match (stored.get(&item.saga_id.0), wrong.next()) {
            (Some(&at), _) => Outcome::Done(Stored { at }),
            (None, wrong) => Outcome::Fail(invalid(&wrong.unwrap_or_default())),
        }))
    }
}

impl UndoTransaction<StoreNotification> for StoreNotification {
    async fn undo(
        _: &StoreNotification,
        tx: &mut Tx<'_>,
        batch: &UndoBatch<DeliverNotification, Stored>,
    ) -> Result<UndoOutcomes, StepError> {
        let progress: Vec<_> =
            batch.iter().map(|item| Progress::to(item.saga_id, NotificationStatus::Cancelled)).collect();
        notifications::record_progress(tx, &progress).await?;
        Ok(batch.decide(|_| UndoOutcome::Done))
    }
}

fn row(item: &Item<DeliverNotification>) -> NewNotification<'_> {
    let DeliverNotification { to, subject, text, html } = &item.input;
    NewNotification { notification_id: item.saga_id.0, recipient: to, subject, text, html: html.as_deref() }
}

fn invalid(violations: &[Violation]) -> Failure {
    let message = violations.first().map_or("the message is wrong", |violation| violation.message.as_str());
    Failure::new("invalid-notification", message).with(json!({"errors": violations}))
}

/// Records that sending begins. This is the pivot.
struct BeginDelivery {
    sender_domain: String,
}

/// The output of `begin-delivery`: the `Message-ID`. It is stored before the first attempt, so that it stays the same if
/// the sender changes between two.
#[derive(Serialize, Deserialize)]
struct Begun {
    /// `None` if a version began the delivery in which every one ended with `@sagaline`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
}

impl TransactionStep for BeginDelivery {
    const NAME: &'static str = "begin-delivery";
    type Input = DeliverNotification;
    type Output = Begun;
    type Undo = ForwardOnly;

    async fn run(
        &self,
        tx: &mut Tx<'_>,
        batch: &Batch<DeliverNotification>,
    ) -> Result<Outcomes<Begun>, StepError> {
        let progress: Vec<_> =
            batch.iter().map(|item| Progress::to(item.saga_id, NotificationStatus::Sending)).collect();
        notifications::record_progress(tx, &progress).await?;
        Ok(batch.decide(|item| {
            let message_id = Some(message_id(item.saga_id, &self.sender_domain));
            Outcome::Done(Begun { message_id })
        }))
    }
}

/// Sends the message through the mail server: at least once, with one `Message-ID`.
struct SendMail {
    mailer: Mailer,
}

/// The output of `send-mail`: the `Message-ID` and the server's reply.
#[derive(Serialize, Deserialize)]
struct Sent {
    message_id: String,
    reply: String,
}

impl CallStep for SendMail {
    const NAME: &'static str = SEND_MAIL;
    type Input = (DeliverNotification, Stored, Begun);
    type Output = Sent;
    type Undo = ForwardOnly;

    async fn call(&self, item: &Item<Self::Input>) -> Result<Outcome<Sent>, CallError> {
        let (DeliverNotification { to, subject, text, html }, Stored { at }, Begun { message_id: id }) =
            &item.input;
        let mail = Mail {
            to: to.clone(),
            subject: subject.clone(),
            text: text.clone(),
            html: html.clone(),
            message_id: id.clone().unwrap_or_else(|| message_id(item.saga_id, "sagaline")),
            at: *at,
        };
        Ok(match self.mailer.send(&mail).await {
            Ok(reply) => Outcome::Done(Sent { message_id: mail.message_id, reply: reply.to_string() }),
            Err(
                error @ (MailError::BreakerOpen { retry_after } | MailError::ProbeFailed { retry_after, .. }),
            ) => Outcome::Retry(Retry::snooze(retry_after, error.to_string()).with(error.details())),
            Err(
                error @ (MailError::ServerRejects { .. }
                | MailError::Temporary { .. }
                | MailError::Unconfirmed { .. }
                | MailError::RecipientDeferred { .. }),
            ) => Outcome::Retry(Retry::because(&error).with(error.details())),
            Err(error @ (MailError::RecipientRejected { .. } | MailError::Unsendable { .. })) => {
                Outcome::Fail(Failure::new(error.code(), error.sentence()).with(error.details()))
            }
        })
    }
}

/// Makes the `Message-ID`, which is the same in every attempt, so that a mail that arrives twice can be recognised. At
/// its right is a domain of ours, as RFC 5322 recommends (section 3.6.4), so that no mail of others has the same.
fn message_id(saga_id: SagaId, sender_domain: &str) -> String {
    format!("<{saga_id}.{SEND_MAIL}@{sender_domain}>")
}

/// Records that the message was sent.
struct RecordDelivery;

/// The output of `record-delivery`.
#[derive(Serialize, Deserialize)]
struct Recorded {}

impl TransactionStep for RecordDelivery {
    const NAME: &'static str = "record-delivery";
    type Input = Sent;
    type Output = Recorded;
    type Undo = ForwardOnly;

    async fn run(&self, tx: &mut Tx<'_>, batch: &Batch<Sent>) -> Result<Outcomes<Recorded>, StepError> {
        let progress: Vec<_> = batch
            .iter()
            .map(|item| Progress {
                sent: Some((&item.input.message_id, &item.input.reply)),
                ..Progress::to(item.saga_id, NotificationStatus::Sent)
            })
            .collect();
        let moved = notifications::record_progress(tx, &progress).await?;
        let events: Vec<_> = moved.iter().filter_map(notifications::ChangedNotification::event).collect();
        outbox::append(tx, &events).await?;
        Ok(batch.decide(|_| Outcome::Done(Recorded {})))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_id_is_the_same_for_every_attempt_and_differs_between_sagas() {
        let (one, other) = (SagaId::generate(), SagaId::generate());
        assert_eq!(message_id(one, "example.com"), message_id(one, "example.com"));
        assert_ne!(message_id(one, "example.com"), message_id(other, "example.com"));
        assert_eq!(message_id(one, "example.com"), format!("<{one}.send-mail@example.com>"));
    }

    #[test]
    fn a_message_needs_a_recipient_and_a_subject_of_one_line() {
        let wrong =
            DeliverNotification { to: "x".into(), subject: "a\nb".into(), text: String::new(), html: None };
        let pointers: Vec<_> = wrong.violations().into_iter().map(|violation| violation.pointer).collect();
        assert_eq!(pointers, ["/to", "/subject", "/text"]);
    }
}
