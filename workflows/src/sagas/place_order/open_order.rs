//! Stores the order, with the names and prices of the moment.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::Duration,
};

use engine::{
    Batch, Failure, Item, Outcome, Outcomes, Shared, StepError, TransactionStep, Tx, UndoBatch, UndoOutcome,
    UndoOutcomes, UndoTransaction,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::{invalid, outcome::PlacementEnd};
use crate::{
    inventory::{self, CatalogEntry},
    notifications::DELIVER_NOTIFICATION,
    orders::{self, ChangedOrder, NewOrderRow, OrderStatusChange, PaymentTerms, PlaceOrder, PricedOrder},
    support::{audit::StartActor, ids::lies_ahead, outbox, violation::Violation},
};

/// Stores the order as pending, with the current names and prices. Its undo closes the order.
pub(super) struct OpenOrder {
    /// How long the orders that are accepted now wait for their payment.
    pub(super) payment_window: Option<Duration>,
}

/// The output of `open-order`: the names and prices that the order keeps.
#[derive(Serialize, Deserialize)]
pub(super) struct Opened {
    pub(super) currency: String,
    pub(super) total: i64,
    pub(super) names: Vec<String>,
    /// Whether the order waits for its payment, and until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) payment: Option<PaymentTerms>,
}

impl TransactionStep for OpenOrder {
    const NAME: &'static str = "open-order";
    type Input = Shared<PlaceOrder>;
    type Output = Opened;
    type Undo = Self;

    async fn run(
        &self,
        tx: &mut Tx<'_>,
        batch: &Batch<Shared<PlaceOrder>>,
    ) -> Result<Outcomes<Opened>, StepError> {
        let skus: BTreeSet<&str> =
            batch.iter().flat_map(|item| &item.input.items).map(|line| line.sku.as_str()).collect();
        let skus: Vec<&str> = skus.into_iter().collect();
        let catalog_entries = inventory::catalog_entries(tx, &skus).await?;
        let catalog_entries: HashMap<&str, &CatalogEntry> =
            catalog_entries.iter().map(|one| (one.sku.as_str(), one)).collect();
        let mut seen = HashSet::new();
        let priced: Vec<Result<PricedOrder, Failure>> =
            batch.iter().map(|item| decide(item, &catalog_entries, &mut seen)).collect();
        let payment = match self.payment_window {
            None => None,
            Some(window) => Some(PaymentTerms::new(orders::now(tx).await?, window)),
        };
        let new: Vec<NewOrderRow<'_>> = batch
            .iter()
            .zip(&priced)
            .filter_map(|(item, priced)| {
                let priced = priced.as_ref().ok()?;
                Some(new_order(item, priced, terms_of(priced, payment)))
            })
            .collect();
        let opened = open(tx, new).await?;
        let mut priced = priced.into_iter();
        Ok(batch.decide(|item| match priced.next() {
            Some(Ok(order)) if opened.contains(&item.input.order_id) => Outcome::Done(Opened {
                payment: terms_of(&order, payment),
                currency: order.currency,
                total: order.total,
                names: order.lines.into_iter().map(|line| line.name).collect(),
            }),
            Some(Err(failure)) => Outcome::Fail(failure),
            Some(Ok(_)) | None => Outcome::Fail(exists(item.input.order_id)),
        }))
    }
}

impl UndoTransaction<OpenOrder> for OpenOrder {
    async fn undo(
        _: &OpenOrder,
        tx: &mut Tx<'_>,
        batch: &UndoBatch<Shared<PlaceOrder>, Opened>,
    ) -> Result<UndoOutcomes, StepError> {
        let closings: Vec<PlacementEnd> =
            batch.iter().map(|item| PlacementEnd::of(item.input.order_id, &item.cause)).collect();
        let begun: Vec<OrderStatusChange<'_>> =
            closings.iter().filter_map(PlacementEnd::first_change).collect();
        let mut events: Vec<_> =
            orders::change_statuses(tx, &begun).await?.iter().map(ChangedOrder::event).collect();
        let ends: Vec<OrderStatusChange<'_>> = closings.iter().map(PlacementEnd::final_change).collect();
        let closed = orders::change_statuses(tx, &ends).await?;
        events.extend(closed.iter().map(ChangedOrder::event));
        outbox::append(tx, &events).await?;
        let closings: HashMap<Uuid, (&PlacementEnd, &Option<String>)> = closings
            .iter()
            .zip(batch)
            .map(|(closing, item)| (closing.order_id, (closing, &item.trace)))
            .collect();
        let mails = closed.iter().filter_map(|order| {
            let (closing, trace) = closings.get(&order.order_id)?;
            let (key, mail) = closing.mail(order);
            Some(DELIVER_NOTIFICATION.with(&mail).business_key(key).trace((*trace).clone()))
        });
        tx.start(mails.collect()).await?;
        Ok(batch.decide(|_| UndoOutcome::Done))
    }
}

fn decide(
    item: &Item<Shared<PlaceOrder>>,
    catalog_entries: &HashMap<&str, &CatalogEntry>,
    seen: &mut HashSet<Uuid>,
) -> Result<PricedOrder, Failure> {
    let order = &item.input;
    if lies_ahead(order.order_id, item.saga_id.0) {
        return Err(invalid(&[Violation::new(
            "/order_id",
            "in-the-future",
            "the time in the id lies ahead",
        )]));
    }
    let priced = orders::price(&order.items, catalog_entries).map_err(|violations| invalid(&violations))?;
    if seen.insert(order.order_id) { Ok(priced) } else { Err(exists(order.order_id)) }
}

/// The terms of an order: one that costs nothing waits for no payment.
fn terms_of(order: &PricedOrder, terms: Option<PaymentTerms>) -> Option<PaymentTerms> {
    terms.filter(|_| order.total > 0)
}

fn new_order<'a>(
    item: &'a Item<Shared<PlaceOrder>>,
    priced: &'a PricedOrder,
    payment: Option<PaymentTerms>,
) -> NewOrderRow<'a> {
    NewOrderRow {
        order_id: item.input.order_id,
        customer_id: item.input.customer_id,
        customer_email: &item.input.customer_email,
        workflow_id: item.saga_id.0,
        actor: item.input.actor.as_deref().unwrap_or("customer"),
        audited: item.context::<StartActor>().map(StartActor::get),
        payment_due_at: payment.map(|terms| terms.due_at),
        priced,
    }
}

/// Stores the orders whose id is free, and returns their ids.
async fn open(tx: &mut Tx<'_>, mut new: Vec<NewOrderRow<'_>>) -> Result<HashSet<Uuid>, StepError> {
    if new.is_empty() {
        return Ok(HashSet::new());
    }
    let opened = orders::insert_orders(tx, &new).await?;
    new.retain(|order| opened.contains(&order.order_id));
    if new.is_empty() {
        return Ok(opened);
    }
    orders::insert_lines(tx, &new).await?;
    let events: Vec<_> = new.iter().map(NewOrderRow::created).collect();
    outbox::append(tx, &events).await?;
    Ok(opened)
}

fn exists(order_id: Uuid) -> Failure {
    let message = format!("there is an order {order_id} already");
    let violation = Violation::new("/order_id", "order-exists", message.as_str());
    Failure::new("order-exists", message).with(json!({"errors": [violation]}))
}
