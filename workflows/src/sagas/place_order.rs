//! Places an order: stores it in the commit that accepts it, reserves its stock, waits for its payment if it has to,
//! confirms it, and mails the customer.
//!
//! ```text
//! open-order ── reserve-stock ── awaits-payment? ──────────────────── confirm-order ── queue-confirmation
//!  undo: close    undo: release    │                              │     pivot            forward only
//!                                  └ await-payment ── is-unpaid? ── check-payment
//!                                                      └ remind-of-payment ── await-late-payment
//! ```

mod confirm_order;
mod earlier;
mod late_cancels;
mod open_order;
mod outcome;
mod payment;
mod reserve_stock;

use std::time::Duration;

use engine::{
    Batch, Definition, Failure, ForwardOnly, GraphError, Outcome, Outcomes, Saga, SagaId, Shared, StepError,
    TransactionStep, Tx,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

pub(crate) use self::earlier::without_payment;
use self::{
    confirm_order::ConfirmOrder,
    late_cancels::LateCancels,
    open_order::{OpenOrder, Opened},
    payment::{CheckPayment, First, RemindOfPayment, Second, due_at, is_awaited, is_unpaid, remind_at},
    reserve_stock::ReserveStock,
};
use super::business_keys::ORDER_CONFIRMED;
use crate::{
    mail_templates,
    notifications::DELIVER_NOTIFICATION,
    orders::{PAYMENT_RECEIVED, PLACE_ORDER, PlaceOrder},
    support::{admin_emails::AdminEmails, violation::Violation},
};

/// Builds the definition. With a `payment_window` the orders that are accepted from now on wait so long for their payment;
/// it has to be shorter than `reservation_ttl`.
pub(crate) fn saga(
    reservation_ttl: Duration,
    payment_window: Option<Duration>,
    admins: AdminEmails,
) -> Result<Definition, GraphError> {
    Saga::named(PLACE_ORDER)
        .deadline(reservation_ttl)
        .check_input(check)
        .observed_by(LateCancels)
        .entry(OpenOrder { payment_window })
        .then(ReserveStock { admins })
        .when("awaits-payment", is_awaited, |part| {
            part.signal_until("await-payment", PAYMENT_RECEIVED, remind_at)
                .labelled::<First>()
                .when("is-unpaid", is_unpaid, |part| {
                    part.then(RemindOfPayment)
                        .signal_until("await-late-payment", PAYMENT_RECEIVED, due_at)
                        .labelled::<Second>()
                })
                .then(CheckPayment)
        })
        .pivot(ConfirmOrder)
        .then(QueueConfirmation)
        .build()
}

fn check(order: &PlaceOrder) -> Result<(), Failure> {
    let violations = order.violations();
    if violations.is_empty() { Ok(()) } else { Err(invalid(&violations)) }
}

fn invalid(violations: &[Violation]) -> Failure {
    let message = violations.first().map_or("the order is wrong", |violation| violation.message.as_str());
    Failure::new("invalid-order", message).with(json!({"errors": violations}))
}

/// Starts the saga that mails the confirmation, in the commit of the confirmation.
struct QueueConfirmation;

/// The output of `queue-confirmation`.
#[derive(Serialize, Deserialize)]
struct Queued {
    notification_id: SagaId,
}

impl TransactionStep for QueueConfirmation {
    const NAME: &'static str = "queue-confirmation";
    type Input = (Shared<PlaceOrder>, Opened);
    type Output = Queued;
    type Undo = ForwardOnly;

    async fn run(&self, tx: &mut Tx<'_>, batch: &Batch<Self::Input>) -> Result<Outcomes<Queued>, StepError> {
        let mails = batch.iter().map(|item| {
            let (order, Opened { currency, total, names, .. }) = &item.input;
            let mail = mail_templates::confirmed(
                order.order_id,
                &order.customer_email,
                &order.items,
                names,
                currency,
                *total,
            );
            DELIVER_NOTIFICATION
                .with(&mail)
                .business_key(format!("{ORDER_CONFIRMED}{}", order.order_id))
                .trace(item.trace.clone())
        });
        let mut started = tx.start(mails.collect()).await?.into_iter();
        Ok(batch.decide(|_| match started.next() {
            Some(started) => Outcome::Done(Queued { notification_id: started.saga_id }),
            None => Outcome::fail("not-started", "the engine gave no answer for the confirmation's saga"),
        }))
    }
}
