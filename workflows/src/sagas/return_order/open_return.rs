//! Stores the return.

use std::collections::{BTreeSet, HashMap, HashSet};

use engine::{
    Batch, Failure, Item, Outcome, Outcomes, Shared, StepError, TransactionStep, Tx, UndoBatch, UndoOutcome,
    UndoOutcomes, UndoTransaction,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::{
    closing::{Closing, close},
    invalid,
    outcome::ReturnEnd,
};
use crate::{
    orders::{self, OrderStatus},
    returns::{self, NewReturnRow, OrderUnits, ReturnItem, ReturnOrder},
    support::{audit::StartActor, ids::lies_ahead, outbox, violation::Violation},
};

/// Stores the return as requested, or refuses it because the order was not shipped or no such units of it are left. Its
/// undo closes the return.
pub(super) struct OpenReturn;

/// The output of `open-return`.
#[derive(Serialize, Deserialize)]
pub(super) struct Opened {}

impl TransactionStep for OpenReturn {
    const NAME: &'static str = "open-return";
    type Input = Shared<ReturnOrder>;
    type Output = Opened;
    type Undo = Self;

    async fn run(
        &self,
        tx: &mut Tx<'_>,
        batch: &Batch<Shared<ReturnOrder>>,
    ) -> Result<Outcomes<Opened>, StepError> {
        let order_ids: BTreeSet<Uuid> = batch.iter().map(|item| item.input.order_id).collect();
        let order_ids: Vec<Uuid> = order_ids.into_iter().collect();
        // Whoever returns something of the same order waits here, so that no unit is returned twice.
        let orders = orders::lock_orders(tx, &order_ids).await?;
        let mut units = returns::units_of_orders(tx, &order_ids).await?;
        let mut seen = HashSet::new();
        let decided: Vec<Result<Vec<ReturnItem>, Failure>> =
            batch.iter().map(|item| decide(item, &orders, &mut units, &mut seen)).collect();
        let new: Vec<NewReturnRow<'_>> = batch
            .iter()
            .zip(&decided)
            .filter_map(|(item, lines)| Some(new_return(item, lines.as_ref().ok()?)))
            .collect();
        let stored = if new.is_empty() { HashSet::new() } else { returns::insert_returns(tx, &new).await? };
        let events: Vec<_> =
            new.iter().filter(|one| stored.contains(&one.return_id)).map(NewReturnRow::requested).collect();
        outbox::append(tx, &events).await?;
        let mut decided = decided.into_iter();
        Ok(batch.decide(|item| match decided.next() {
            Some(Ok(_)) if stored.contains(&item.input.return_id) => Outcome::Done(Opened {}),
            Some(Err(failure)) => Outcome::Fail(failure),
            Some(Ok(_)) | None => Outcome::Fail(exists(item.input.return_id)),
        }))
    }
}

impl UndoTransaction<OpenReturn> for OpenReturn {
    async fn undo(
        _: &OpenReturn,
        tx: &mut Tx<'_>,
        batch: &UndoBatch<Shared<ReturnOrder>, Opened>,
    ) -> Result<UndoOutcomes, StepError> {
        let ends: Vec<ReturnEnd> = batch.iter().map(|item| ReturnEnd::of(&item.cause)).collect();
        let closings: Vec<Closing<'_>> = batch
            .iter()
            .zip(&ends)
            .map(|(item, end)| Closing {
                return_id: item.input.return_id,
                order_id: item.input.order_id,
                parcel: None,
                end,
                trace: item.trace.clone(),
            })
            .collect();
        close(tx, &closings).await?;
        Ok(batch.decide(|_| UndoOutcome::Done))
    }
}

/// Decides what a return has, and counts it in `units`, for the returns after it in the batch.
fn decide(
    item: &Item<Shared<ReturnOrder>>,
    orders: &HashMap<Uuid, (OrderStatus, i64)>,
    units: &mut HashMap<Uuid, OrderUnits>,
    seen: &mut HashSet<Uuid>,
) -> Result<Vec<ReturnItem>, Failure> {
    let ReturnOrder { return_id, order_id, items, .. } = &*item.input;
    if lies_ahead(*return_id, item.saga_id.0) {
        let message = "the time in the id lies ahead";
        return Err(invalid(&[Violation::new("/return_id", "in-the-future", message)]));
    }
    let Some((status, _)) = orders.get(order_id) else {
        let message = format!("there is no order {order_id}");
        let violation = Violation::new("/order_id", "no-such-order", message.as_str());
        return Err(Failure::new("no-such-order", message).with(json!({"errors": [violation]})));
    };
    if !status.is_returnable() {
        let message = format!("the order is {status}: what was shipped can be returned");
        return Err(Failure::new("not-returnable", message).with(json!({"status": status})));
    }
    let units = units.entry(*order_id).or_default();
    let lines = returns::returned_lines(items, units).map_err(|violations| invalid(&violations))?;
    if !seen.insert(*return_id) {
        return Err(exists(*return_id));
    }
    units.take(&lines);
    Ok(lines)
}

fn new_return<'a>(item: &'a Item<Shared<ReturnOrder>>, lines: &'a [ReturnItem]) -> NewReturnRow<'a> {
    NewReturnRow {
        return_id: item.input.return_id,
        order_id: item.input.order_id,
        workflow_id: item.saga_id.0,
        reason: &item.input.reason,
        actor: item.input.actor.as_deref().unwrap_or("customer"),
        audited: item.context::<StartActor>().map(StartActor::get),
        lines,
    }
}

fn exists(return_id: Uuid) -> Failure {
    let message = format!("there is a return {return_id} already");
    let violation = Violation::new("/return_id", "return-exists", message.as_str());
    Failure::new("return-exists", message).with(json!({"errors": [violation]}))
}
