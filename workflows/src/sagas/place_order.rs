//! Places an order: stores it in the commit that accepts it, reserves its stock, confirms it, and mails the customer.
//!
//! ```text
//! open-order ── reserve-stock ── confirm-order ── queue-confirmation
//!  undo: close    undo: release    pivot            forward only
//! ```

mod late_cancels;
mod outcome;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::Duration,
};

use engine::{
    Batch, Definition, Failure, ForwardOnly, GraphError, Item, Outcome, Outcomes, Saga, SagaId, Shared,
    StepError, TransactionStep, Tx, UndoBatch, UndoOutcome, UndoOutcomes, UndoTransaction,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use self::{
    late_cancels::LateCancels,
    outcome::{PlacementEnd, insufficient},
};
use super::{business_keys::ORDER_CONFIRMED, low_stock_alert::low_stock_alerts};
use crate::{
    inventory::{self, CatalogEntry, ReservationEnd, ReservationRequest, Reservations},
    mail_templates,
    notifications::DELIVER_NOTIFICATION,
    orders::{
        self, ChangedOrder, NewOrderRow, OrderStatus, OrderStatusChange, PLACE_ORDER, PlaceOrder, PricedOrder,
    },
    support::{admin_emails::AdminEmails, audit::StartActor, outbox, violation::Violation},
};

/// How much the clocks of two processes may differ.
const MAX_CLOCK_DIFFERENCE: Duration = Duration::from_mins(5);

/// Builds the definition.
pub(crate) fn saga(reservation_ttl: Duration, admins: AdminEmails) -> Result<Definition, GraphError> {
    Saga::named(PLACE_ORDER)
        .deadline(reservation_ttl)
        .check_input(check)
        .observed_by(LateCancels)
        .entry(OpenOrder)
        .then(ReserveStock { admins })
        .pivot(ConfirmOrder)
        .then(QueueConfirmation)
        .build()
}

fn check(order: &PlaceOrder) -> Result<(), Failure> {
    let violations = order.violations();
    if violations.is_empty() { Ok(()) } else { Err(invalid(&violations)) }
}

/// Stores the order as pending, with the current names and prices. Its undo closes the order.
struct OpenOrder;

/// The output of `open-order`: the names and prices that the order keeps.
#[derive(Serialize, Deserialize)]
struct Opened {
    currency: String,
    total: i64,
    names: Vec<String>,
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
        let new: Vec<NewOrderRow<'_>> = batch
            .iter()
            .zip(&priced)
            .filter_map(|(item, priced)| Some(new_order(item, priced.as_ref().ok()?)))
            .collect();
        let opened = open(tx, new).await?;
        let mut priced = priced.into_iter();
        Ok(batch.decide(|item| match priced.next() {
            Some(Ok(order)) if opened.contains(&item.input.order_id) => Outcome::Done(Opened {
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

/// Whether the time in an order's id is later than that of its saga, which is new, by more than clocks may differ. The
/// order would be the first in every list until then.
fn lies_ahead(order_id: Uuid, saga_id: Uuid) -> bool {
    let created_s = |id: Uuid| id.get_timestamp().map(|time| time.to_unix().0);
    let (Some(ordered), Some(started)) = (created_s(order_id), created_s(saga_id)) else { return false };
    ordered > started + MAX_CLOCK_DIFFERENCE.as_secs()
}

fn new_order<'a>(item: &'a Item<Shared<PlaceOrder>>, priced: &'a PricedOrder) -> NewOrderRow<'a> {
    NewOrderRow {
        order_id: item.input.order_id,
        customer_id: item.input.customer_id,
        customer_email: &item.input.customer_email,
        workflow_id: item.saga_id.0,
        actor: item.input.actor.as_deref().unwrap_or("customer"),
        audited: item.context::<StartActor>().map(StartActor::get),
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

fn invalid(violations: &[Violation]) -> Failure {
    let message = violations.first().map_or("the order is wrong", |violation| violation.message.as_str());
    Failure::new("invalid-order", message).with(json!({"errors": violations}))
}

fn exists(order_id: Uuid) -> Failure {
    let message = format!("there is an order {order_id} already");
    let violation = Violation::new("/order_id", "order-exists", message.as_str());
    Failure::new("order-exists", message).with(json!({"errors": [violation]}))
}

/// Reserves the stock of all items, summed per SKU, or nothing. Its undo releases the stock.
struct ReserveStock {
    /// The administrators, who get a mail if that makes stock low.
    admins: AdminEmails,
}

/// The output of `reserve-stock`.
#[derive(Serialize, Deserialize)]
struct Reserved {
    units: i64,
}

impl TransactionStep for ReserveStock {
    const NAME: &'static str = "reserve-stock";
    type Input = Shared<PlaceOrder>;
    type Output = Reserved;
    type Undo = Self;

    fn locks(&self, order: &Shared<PlaceOrder>) -> Vec<String> {
        order.items.iter().map(|line| line.sku.clone()).collect()
    }

    async fn run(
        &self,
        tx: &mut Tx<'_>,
        batch: &Batch<Shared<PlaceOrder>>,
    ) -> Result<Outcomes<Reserved>, StepError> {
        let requests: Vec<ReservationRequest> = batch.iter().map(|item| reservation(&item.input)).collect();
        let Reservations { results, low } = inventory::reserve(tx, PLACE_ORDER.name(), &requests).await?;
        tx.start(low_stock_alerts(&self.admins, &low)).await?;
        let mut results = results.into_iter();
        Ok(batch.decide(|item| match results.next() {
            Some(Err(short)) => Outcome::Fail(insufficient(&short)),
            Some(Ok(())) | None => {
                Outcome::Done(Reserved { units: item.input.items.iter().map(|line| line.quantity).sum() })
            }
        }))
    }
}

impl UndoTransaction<ReserveStock> for ReserveStock {
    async fn undo(
        _: &ReserveStock,
        tx: &mut Tx<'_>,
        batch: &UndoBatch<Shared<PlaceOrder>, Reserved>,
    ) -> Result<UndoOutcomes, StepError> {
        let order_ids: Vec<Uuid> = batch.iter().map(|item| item.input.order_id).collect();
        inventory::end_reservations(tx, PLACE_ORDER.name(), &order_ids, ReservationEnd::Released).await?;
        Ok(batch.decide(|_| UndoOutcome::Done))
    }
}

fn reservation(order: &PlaceOrder) -> ReservationRequest {
    ReservationRequest::new(order.order_id, order.items.iter().map(|line| (line.sku.as_str(), line.quantity)))
}

/// Confirms the order. This is the pivot.
struct ConfirmOrder;

/// The output of `confirm-order`.
#[derive(Serialize, Deserialize)]
struct Confirmed {}

impl TransactionStep for ConfirmOrder {
    const NAME: &'static str = "confirm-order";
    type Input = Shared<PlaceOrder>;
    type Output = Confirmed;
    type Undo = ForwardOnly;

    async fn run(
        &self,
        tx: &mut Tx<'_>,
        batch: &Batch<Shared<PlaceOrder>>,
    ) -> Result<Outcomes<Confirmed>, StepError> {
        let moves: Vec<OrderStatusChange<'_>> = batch
            .iter()
            .map(|item| OrderStatusChange {
                order_id: item.input.order_id,
                from: OrderStatus::Pending,
                to: OrderStatus::Confirmed,
                actor: PLACE_ORDER.name(),
                reason: None,
            })
            .collect();
        let orders = orders::change_statuses(tx, &moves).await?;
        let events: Vec<_> = orders.iter().map(ChangedOrder::event).collect();
        outbox::append(tx, &events).await?;
        let confirmed: HashSet<Uuid> = orders.into_iter().map(|order| order.order_id).collect();
        Ok(batch.decide(|item| {
            if confirmed.contains(&item.input.order_id) {
                Outcome::Done(Confirmed {})
            } else {
                Outcome::fail("order-not-pending", "the order is no longer pending")
            }
        }))
    }
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
            let (order, Opened { currency, total, names }) = &item.input;
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
