//! Cancels an order that was placed: sets its status in the commit that accepts the cancel, releases its stock, and
//! mails the customer. It never compensates: the first step is the pivot.
//!
//! ```text
//! begin-cancellation ── release-stock ── finish-cancellation
//!   entry and pivot      forward only      forward only
//! ```

use std::collections::{BTreeSet, HashMap, HashSet};

use engine::{
    Batch, Definition, Failure, ForwardOnly, GraphError, Item, Outcome, Outcomes, Saga, StepError,
    TransactionStep, Tx,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::business_keys::ORDER_CANCELLED;
use crate::{
    inventory::{self, ReservationEnd},
    mail_templates,
    notifications::DELIVER_NOTIFICATION,
    orders::{self, CANCEL_ORDER, CancelOrder, ChangedOrder, OrderStatus, OrderStatusChange},
    support::{
        bounds::{REASON, REQUIRED_REASON},
        outbox,
    },
};

/// Builds the definition.
pub(crate) fn saga() -> Result<Definition, GraphError> {
    Saga::named(CANCEL_ORDER)
        .entry_pivot(BeginCancellation)
        .then(ReleaseStock)
        .then(FinishCancellation)
        .build()
}

/// Sets the order to `cancelling`, or refuses because it is too late.
struct BeginCancellation;

/// The output of `begin-cancellation`.
#[derive(Serialize, Deserialize)]
struct Begun {}

impl TransactionStep for BeginCancellation {
    const NAME: &'static str = "begin-cancellation";
    type Input = CancelOrder;
    type Output = Begun;
    type Undo = ForwardOnly;

    async fn run(&self, tx: &mut Tx<'_>, batch: &Batch<CancelOrder>) -> Result<Outcomes<Begun>, StepError> {
        let order_ids: BTreeSet<Uuid> = batch.iter().map(|item| item.input.order_id).collect();
        let order_ids: Vec<Uuid> = order_ids.into_iter().collect();
        let found = orders::lock_orders(tx, &order_ids).await?;
        let mut begun = HashSet::new();
        let answers: Vec<Result<OrderStatus, Failure>> = batch
            .iter()
            .map(|item| {
                let from = check_cancellable(&item.input, found.get(&item.input.order_id).copied())?;
                if begun.insert(item.input.order_id) {
                    Ok(from)
                } else {
                    Err(not_cancellable("the order is being cancelled"))
                }
            })
            .collect();
        let moves: Vec<OrderStatusChange<'_>> = batch
            .iter()
            .zip(&answers)
            .filter_map(|(item, answer)| Some(change(item, *answer.as_ref().ok()?, OrderStatus::Cancelling)))
            .collect();
        let events: Vec<_> =
            orders::change_statuses(tx, &moves).await?.iter().map(ChangedOrder::event).collect();
        outbox::append(tx, &events).await?;
        let mut answers = answers.into_iter();
        Ok(batch.decide(|_| match answers.next() {
            Some(Ok(_)) => Outcome::Done(Begun {}),
            Some(Err(failure)) => Outcome::Fail(failure),
            None => Outcome::Fail(not_cancellable("the order was not looked at")),
        }))
    }
}

/// Returns the status of an order that can be cancelled; else why it can't. `found` is its status and version.
pub(crate) fn check_cancellable(
    input: &CancelOrder,
    found: Option<(OrderStatus, i64)>,
) -> Result<OrderStatus, Failure> {
    let wrong = REQUIRED_REASON.violation("/reason", &input.reason);
    if let Some(violation) = wrong.or_else(|| REASON.violation("/actor", &input.actor)) {
        return Err(not_cancellable(format!("{} {}", violation.pointer, violation.message)));
    }
    let Some((status, version)) = found else {
        return Err(not_cancellable(format!("there is no order {}", input.order_id)));
    };
    if input.expected_version.is_some_and(|expected| expected != version) {
        let message = format!("the order's version is {version} by now");
        return Err(Failure::new("version-mismatch", message).with(json!({"current": version})));
    }
    match status {
        OrderStatus::Confirmed | OrderStatus::Processing => Ok(status),
        OrderStatus::Pending => Err(not_cancellable("the order is still being placed: cancel its workflow")),
        OrderStatus::Shipped
        | OrderStatus::Delivered
        | OrderStatus::Rejected
        | OrderStatus::Cancelling
        | OrderStatus::Cancelled
        | OrderStatus::Returned => Err(not_cancellable(format!("the order is {status}"))),
    }
}

fn not_cancellable(message: impl Into<String>) -> Failure {
    Failure::new("not-cancellable", message)
}

fn change(item: &Item<CancelOrder>, from: OrderStatus, to: OrderStatus) -> OrderStatusChange<'_> {
    let CancelOrder { order_id, reason, actor, .. } = &item.input;
    OrderStatusChange { order_id: *order_id, from, to, actor, reason: Some(reason) }
}

/// Releases the stock that the order has reserved.
struct ReleaseStock;

/// The output of `release-stock`.
#[derive(Serialize, Deserialize)]
struct Released {}

impl TransactionStep for ReleaseStock {
    const NAME: &'static str = "release-stock";
    type Input = CancelOrder;
    type Output = Released;
    type Undo = ForwardOnly;

    async fn run(
        &self,
        tx: &mut Tx<'_>,
        batch: &Batch<CancelOrder>,
    ) -> Result<Outcomes<Released>, StepError> {
        let order_ids: Vec<Uuid> = batch.iter().map(|item| item.input.order_id).collect();
        inventory::end_reservations(tx, CANCEL_ORDER.name(), &order_ids, ReservationEnd::Released).await?;
        Ok(batch.decide(|_| Outcome::Done(Released {})))
    }
}

/// Closes the order and mails the customer.
struct FinishCancellation;

/// The output of `finish-cancellation`.
#[derive(Serialize, Deserialize)]
struct Finished {}

impl TransactionStep for FinishCancellation {
    const NAME: &'static str = "finish-cancellation";
    type Input = CancelOrder;
    type Output = Finished;
    type Undo = ForwardOnly;

    async fn run(
        &self,
        tx: &mut Tx<'_>,
        batch: &Batch<CancelOrder>,
    ) -> Result<Outcomes<Finished>, StepError> {
        let ends: Vec<OrderStatusChange<'_>> =
            batch.iter().map(|item| change(item, OrderStatus::Cancelling, OrderStatus::Cancelled)).collect();
        let closed = orders::change_statuses(tx, &ends).await?;
        let events: Vec<_> = closed.iter().map(ChangedOrder::event).collect();
        outbox::append(tx, &events).await?;
        let traces: HashMap<Uuid, &Option<String>> =
            batch.iter().map(|item| (item.input.order_id, &item.trace)).collect();
        let mails = closed.iter().map(|order| {
            let trace = traces.get(&order.order_id).copied().cloned().flatten();
            DELIVER_NOTIFICATION
                .with(&mail_templates::cancelled(order))
                .business_key(format!("{ORDER_CANCELLED}{}", order.order_id))
                .trace(trace)
        });
        tx.start(mails.collect()).await?;
        let closed: HashSet<Uuid> = closed.iter().map(|order| order.order_id).collect();
        Ok(batch.decide(|item| {
            if closed.contains(&item.input.order_id) {
                Outcome::Done(Finished {})
            } else {
                Outcome::fail("order-not-cancelling", "the order is no longer being cancelled")
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_placed_orders_that_were_not_shipped_are_cancelled() {
        let input = cancellation(None);
        for &status in OrderStatus::ALL {
            let expected = matches!(status, OrderStatus::Confirmed | OrderStatus::Processing);
            assert_eq!(check_cancellable(&input, Some((status, 2))).is_ok(), expected, "{status}");
            if expected {
                assert!(status.next().contains(&OrderStatus::Cancelling));
            }
        }
        assert!(check_cancellable(&input, None).is_err());
    }

    fn cancellation(expected_version: Option<i64>) -> CancelOrder {
        CancelOrder { order_id: Uuid::nil(), reason: "no".into(), actor: "ada".into(), expected_version }
    }

    #[test]
    fn only_the_expected_version_is_cancelled() {
        let confirmed = |version| Some((OrderStatus::Confirmed, version));
        assert!(check_cancellable(&cancellation(Some(2)), confirmed(2)).is_ok());
        let refused = check_cancellable(&cancellation(Some(2)), confirmed(3)).unwrap_err();
        assert_eq!((refused.code.as_str(), &refused.details["current"]), ("version-mismatch", &3.into()));
    }

    #[test]
    fn a_cancellation_says_why() {
        let silent = CancelOrder { reason: " ".into(), ..cancellation(None) };
        assert!(check_cancellable(&silent, Some((OrderStatus::Confirmed, 2))).is_err());
    }
}
