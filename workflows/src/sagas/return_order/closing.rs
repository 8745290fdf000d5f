//! Closes returns by what their rows say: a parcel that is here is restocked, whatever else was decided meanwhile.

use std::collections::{BTreeSet, HashMap, HashSet};

use engine::{Failure, NewSaga, StepError, Tx};
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::outcome::ReturnEnd;
use crate::{
    inventory::{self, Restock},
    mail_templates,
    notifications::DELIVER_NOTIFICATION,
    orders::{self, ChangedOrder, OrderStatus, OrderStatusChange},
    returns::{
        self, ChangedReturn, LockedReturn, Parcel, RETURN_ORDER, Reason, ReturnStatus, ReturnStatusChange,
        received_lines,
    },
    sagas::business_keys::{RETURN_CLOSED, RETURN_RECEIVED},
    support::outbox,
};

/// A return that is to be closed.
pub(crate) struct Closing<'a> {
    pub(crate) return_id: Uuid,
    pub(crate) order_id: Uuid,
    /// What a signal says that has arrived. A parcel that was received by the command is in the row.
    pub(crate) parcel: Option<&'a Parcel>,
    /// How it ends if nothing has arrived and it is not closed yet.
    pub(crate) end: &'a ReturnEnd,
    pub(crate) trace: Option<String>,
}

/// Closes the returns, and returns the last status of each; or why its parcel can't be taken.
pub(super) async fn close(
    tx: &mut Tx<'_>,
    closings: &[Closing<'_>],
) -> Result<Vec<Result<ReturnStatus, Failure>>, StepError> {
    let Closed { statuses, mails } = close_rows(tx, closings).await?;
    tx.start(mails).await?;
    Ok(statuses)
}

/// What has become of returns that were closed.
pub(crate) struct Closed {
    /// The last status of each; or why its parcel can't be taken.
    pub(crate) statuses: Vec<Result<ReturnStatus, Failure>>,
    /// The sagas that tell the customers, which the same transaction has to start.
    pub(crate) mails: Vec<NewSaga>,
}

/// As [`close`], in any transaction.
pub(crate) async fn close_rows(
    conn: &mut PgConnection,
    closings: &[Closing<'_>],
) -> Result<Closed, sqlx::Error> {
    let order_ids: BTreeSet<Uuid> = closings.iter().map(|closing| closing.order_id).collect();
    let order_ids: Vec<Uuid> = order_ids.into_iter().collect();
    // Before the returns, and all before the stock: every transaction locks in this order.
    let orders = orders::lock_orders(conn, &order_ids).await?;
    let return_ids: Vec<Uuid> = closings.iter().map(|closing| closing.return_id).collect();
    let mut found = returns::lock_returns(conn, &return_ids).await?;
    let (arrivals, mut refused) = take_parcels(conn, closings, &mut found).await?;
    let mut moved = returns::change_statuses(conn, &arrivals).await?;
    let is_here = |row: &&LockedReturn| row.status == ReturnStatus::Received;
    let arrived: Vec<&LockedReturn> = found.values().filter(is_here).collect();
    restock(conn, &arrived).await?;
    let ends = closings.iter().filter_map(|closing| {
        let row = found.get(&closing.return_id).filter(|row| !refused.contains_key(&row.return_id))?;
        last_change(row, closing.end)
    });
    moved.extend(returns::change_statuses(conn, &ends.collect::<Vec<_>>()).await?);
    let events: Vec<_> = moved.iter().map(ChangedReturn::event).collect();
    outbox::append(conn, &events).await?;
    mark_returned(conn, &arrived, &orders).await?;
    let last: HashMap<Uuid, &ChangedReturn> = moved.iter().map(|one| (one.return_id, one)).collect();
    let mails = closings.iter().filter_map(|closing| {
        let mail = mail(found.get(&closing.return_id)?, last.get(&closing.return_id).copied());
        mail.map(|mail| mail.trace(closing.trace.clone()))
    });
    let mails = mails.collect();
    let statuses = closings
        .iter()
        .map(|closing| match (refused.remove(&closing.return_id), found.get(&closing.return_id)) {
            (Some(failure), _) => Err(failure),
            (None, Some(row)) => Ok(last.get(&closing.return_id).map_or(row.status, |moved| moved.status)),
            (None, None) => Err(Failure::new("no-such-return", "the return does not exist")),
        })
        .collect();
    Ok(Closed { statuses, mails })
}

/// The changes of status of the parcels that were taken, and why others can't be.
type Taken<'a> = (Vec<ReturnStatusChange<'a>>, HashMap<Uuid, Failure>);

/// Writes the parcels that signals brought into the rows.
async fn take_parcels<'a>(
    conn: &mut PgConnection,
    closings: &[Closing<'a>],
    found: &mut HashMap<Uuid, LockedReturn>,
) -> Result<Taken<'a>, sqlx::Error> {
    let (mut arrivals, mut refused) = (Vec::new(), HashMap::new());
    for closing in closings {
        let Some(row) = found.get_mut(&closing.return_id) else { continue };
        match take_parcel(row, closing.parcel) {
            Ok(None) => {}
            Ok(Some(change)) => {
                returns::set_received(conn, row.return_id, &row.items).await?;
                arrivals.push(change);
            }
            Err(failure) => {
                refused.insert(row.return_id, failure);
            }
        }
    }
    Ok((arrivals, refused))
}

/// Writes a parcel that a signal brought into the row, unless the command was before it; returns the change of status.
fn take_parcel<'a>(
    row: &mut LockedReturn,
    parcel: Option<&'a Parcel>,
) -> Result<Option<ReturnStatusChange<'a>>, Failure> {
    let Some(parcel) = parcel.filter(|_| row.status == ReturnStatus::Approved) else { return Ok(None) };
    row.items = received_lines(&row.items, &parcel.items).map_err(|violations| {
        let message = violations.first().map_or("it is wrong", |violation| violation.message.as_str());
        let message = format!("the parcel that was signalled can't be taken: {message}");
        Failure::new("invalid-parcel", message).with(json!({"errors": violations}))
    })?;
    row.status = ReturnStatus::Received;
    Ok(Some(ReturnStatusChange {
        return_id: row.return_id,
        from: ReturnStatus::Approved,
        to: ReturnStatus::Received,
        actor: RETURN_ORDER.name(),
        reason: parcel.reason.as_ref().map(Reason::as_str),
    }))
}

/// The last change of a return's status; `None` if it is closed.
fn last_change<'a>(row: &LockedReturn, end: &'a ReturnEnd) -> Option<ReturnStatusChange<'a>> {
    let (to, actor, reason) = match row.status {
        ReturnStatus::Received => (ReturnStatus::Completed, RETURN_ORDER.name(), None),
        ReturnStatus::Requested | ReturnStatus::Approved => {
            (end.status, end.actor.as_str(), Some(end.reason.as_str()))
        }
        ReturnStatus::Completed
        | ReturnStatus::Rejected
        | ReturnStatus::Expired
        | ReturnStatus::Cancelled => {
            return None;
        }
    };
    Some(ReturnStatusChange { return_id: row.return_id, from: row.status, to, actor, reason })
}

/// Puts what is fit for sale back to stock.
async fn restock(conn: &mut PgConnection, arrived: &[&LockedReturn]) -> Result<(), sqlx::Error> {
    let restocks: Vec<Restock> = arrived
        .iter()
        .flat_map(|row| {
            row.items.iter().filter_map(|line| {
                let quantity = line.restocked.filter(|quantity| *quantity > 0)?;
                Some(Restock { order_id: row.order_id, sku: line.sku.clone(), quantity })
            })
        })
        .collect();
    inventory::restock(conn, RETURN_ORDER.name(), &restocks).await
}

/// Marks the orders of which every unit is back. `orders` are locked.
async fn mark_returned(
    conn: &mut PgConnection,
    arrived: &[&LockedReturn],
    orders: &HashMap<Uuid, (OrderStatus, i64)>,
) -> Result<(), sqlx::Error> {
    let order_ids: HashSet<Uuid> = arrived.iter().map(|row| row.order_id).collect();
    if order_ids.is_empty() {
        return Ok(());
    }
    let order_ids: Vec<Uuid> = order_ids.into_iter().collect();
    let units = returns::completed_units(conn, &order_ids).await?;
    let changes = order_ids.iter().filter_map(|order_id| {
        let (from, _) = orders.get(order_id).filter(|(status, _)| status.is_returnable())?;
        units.get(order_id).filter(|units| units.are_all_returned())?;
        Some(OrderStatusChange {
            order_id: *order_id,
            from: *from,
            to: OrderStatus::Returned,
            actor: RETURN_ORDER.name(),
            reason: None,
        })
    });
    let changes: Vec<_> = changes.collect();
    let events: Vec<_> =
        orders::change_statuses(conn, &changes).await?.iter().map(ChangedOrder::event).collect();
    outbox::append(conn, &events).await
}

/// The mail about the end of a return, which was changed now or closed before.
fn mail(row: &LockedReturn, moved: Option<&ChangedReturn>) -> Option<NewSaga> {
    let (status, reason) = match moved {
        Some(moved) => (moved.status, &moved.status_reason),
        None => (row.status, &row.status_reason),
    };
    match status {
        ReturnStatus::Completed => {
            let key = format!("{RETURN_RECEIVED}{}", row.return_id);
            Some(DELIVER_NOTIFICATION.with(&mail_templates::return_received(row)).business_key(key))
        }
        ReturnStatus::Rejected | ReturnStatus::Expired | ReturnStatus::Cancelled => {
            let key = format!("{RETURN_CLOSED}{}", row.return_id);
            let reason = reason.as_deref().unwrap_or("no reason was given");
            let mail = mail_templates::return_closed(row, reason);
            Some(DELIVER_NOTIFICATION.with(&mail).business_key(key))
        }
        ReturnStatus::Requested | ReturnStatus::Approved | ReturnStatus::Received => None,
    }
}
