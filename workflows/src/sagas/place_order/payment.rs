//! Waits for the payment of an order, if it was accepted with a time for that: reminds the customer after half of the
//! time, and rejects the order at its end.

use chrono::{DateTime, Utc};
use engine::{
    Batch, NothingToUndo, Of, Outcome, Outcomes, Shared, Signalled, StepError, TransactionStep, Tx,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::open_order::Opened;
use crate::{
    mail_templates,
    notifications::DELIVER_NOTIFICATION,
    orders::{Payment, PlaceOrder},
    sagas::business_keys::PAYMENT_REMINDER,
    support::outbox::{self, NewEvent},
};

/// Labels what came before the reminder.
pub(super) struct First;

/// Labels what came after the reminder.
pub(super) struct Second;

/// What came before the reminder.
pub(super) type FirstWait = Of<First, Signalled<Payment>>;

/// What came after the reminder, if there was one.
type SecondWait = Option<Of<Second, Signalled<Payment>>>;

/// Whether the order waits for a payment.
pub(super) fn is_awaited(opened: &Opened) -> bool {
    opened.payment.is_some()
}

/// Whether no payment came before the reminder.
pub(super) fn is_unpaid(first: &FirstWait) -> bool {
    matches!(**first, Signalled::TimedOut)
}

/// When the customer is reminded.
pub(super) fn remind_at(opened: &Opened, now: DateTime<Utc>) -> DateTime<Utc> {
    opened.payment.map_or(now, |terms| terms.remind_at)
}

/// When the order is rejected.
pub(super) fn due_at(opened: &Opened, now: DateTime<Utc>) -> DateTime<Utc> {
    opened.payment.map_or(now, |terms| terms.due_at)
}

/// Starts the saga that mails the reminder. A mail can't be taken back; the one about the order's end explains it.
pub(super) struct RemindOfPayment;

/// The output of `remind-of-payment`.
#[derive(Serialize, Deserialize)]
pub(super) struct Reminded {}

impl TransactionStep for RemindOfPayment {
    const NAME: &'static str = "remind-of-payment";
    type Input = (Shared<PlaceOrder>, Opened);
    type Output = Reminded;
    type Undo = NothingToUndo;

    async fn run(
        &self,
        tx: &mut Tx<'_>,
        batch: &Batch<Self::Input>,
    ) -> Result<Outcomes<Reminded>, StepError> {
        let mails = batch.iter().filter_map(|item| {
            let (order, opened) = &item.input;
            let mail = mail_templates::payment_reminder(
                order.order_id,
                &order.customer_email,
                &opened.currency,
                opened.total,
                opened.payment?.due_at,
            );
            let key = format!("{PAYMENT_REMINDER}{}", order.order_id);
            Some(DELIVER_NOTIFICATION.with(&mail).business_key(key).trace(item.trace.clone()))
        });
        tx.start(mails.collect()).await?;
        Ok(batch.decide(|_| Outcome::Done(Reminded {})))
    }
}

/// Fails the placement of an order that was not paid in time.
pub(super) struct CheckPayment;

/// The output of `check-payment`.
#[derive(Serialize, Deserialize)]
pub(super) struct Paid {
    pub(super) payment: Payment,
}

impl TransactionStep for CheckPayment {
    const NAME: &'static str = "check-payment";
    type Input = (Shared<PlaceOrder>, FirstWait, SecondWait);
    type Output = Paid;
    type Undo = NothingToUndo;

    async fn run(&self, tx: &mut Tx<'_>, batch: &Batch<Self::Input>) -> Result<Outcomes<Paid>, StepError> {
        let events: Vec<NewEvent> = batch
            .iter()
            .filter_map(|item| {
                let (order, first, second) = &item.input;
                let reference = received(first, second.as_ref())?.reference.as_str();
                let payload = json!({
                    "order_id": order.order_id,
                    "customer_id": order.customer_id,
                    "payment_reference": reference,
                });
                Some(NewEvent::new("order.paid", &order.order_id, &payload))
            })
            .collect();
        outbox::append(tx, &events).await?;
        Ok(batch.decide(|item| {
            let (_, first, second) = &item.input;
            match received(first, second.as_ref()) {
                Some(payment) => Outcome::Done(Paid { payment: payment.clone() }),
                None => Outcome::fail("not-paid", "the payment did not arrive in time"),
            }
        }))
    }
}

/// The payment, if one came.
fn received<'a>(
    first: &'a FirstWait,
    second: Option<&'a Of<Second, Signalled<Payment>>>,
) -> Option<&'a Payment> {
    [Some(&**first), second.map(|second| &**second)].into_iter().flatten().find_map(|wait| match wait {
        Signalled::Received(payment) => Some(payment),
        Signalled::TimedOut => None,
    })
}
