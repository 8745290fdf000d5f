//! Confirms the order.

use std::collections::HashSet;

use engine::{Batch, ForwardOnly, Outcome, Outcomes, Shared, StepError, TransactionStep, Tx};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::payment::Paid;
use crate::{
    orders::{self, ChangedOrder, OrderStatus, OrderStatusChange, PLACE_ORDER, PlaceOrder},
    support::outbox,
};

/// Confirms the order. This is the pivot.
pub(super) struct ConfirmOrder;

/// The output of `confirm-order`.
#[derive(Serialize, Deserialize)]
pub(super) struct Confirmed {}

impl TransactionStep for ConfirmOrder {
    const NAME: &'static str = "confirm-order";
    type Input = (Shared<PlaceOrder>, Option<Paid>);
    type Output = Confirmed;
    type Undo = ForwardOnly;

    async fn run(
        &self,
        tx: &mut Tx<'_>,
        batch: &Batch<Self::Input>,
    ) -> Result<Outcomes<Confirmed>, StepError> {
        confirm(tx, batch, |(order, paid)| (order.order_id, paid.as_ref())).await
    }
}

/// Confirms the orders of a batch; `of` gives the order of an input, and its payment.
pub(super) async fn confirm<Input>(
    tx: &mut Tx<'_>,
    batch: &Batch<Input>,
    of: impl Fn(&Input) -> (Uuid, Option<&Paid>),
) -> Result<Outcomes<Confirmed>, StepError> {
    let reasons: Vec<Option<String>> = batch
        .iter()
        .map(|item| Some(format!("paid: {}", of(&item.input).1?.payment.reference.as_str())))
        .collect();
    let moves: Vec<OrderStatusChange<'_>> = batch
        .iter()
        .zip(&reasons)
        .map(|(item, reason)| OrderStatusChange {
            order_id: of(&item.input).0,
            from: OrderStatus::Pending,
            to: OrderStatus::Confirmed,
            actor: PLACE_ORDER.name(),
            reason: reason.as_deref(),
        })
        .collect();
    let orders = orders::change_statuses(tx, &moves).await?;
    let events: Vec<_> = orders.iter().map(ChangedOrder::event).collect();
    outbox::append(tx, &events).await?;
    let confirmed: HashSet<Uuid> = orders.into_iter().map(|order| order.order_id).collect();
    Ok(batch.decide(|item| {
        if confirmed.contains(&of(&item.input).0) {
            Outcome::Done(Confirmed {})
        } else {
            Outcome::fail("order-not-pending", "the order is no longer pending")
        }
    }))
}
