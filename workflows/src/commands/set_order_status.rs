//! The status changes that people make: packing, shipping, delivering.

use serde_json::json;
use uuid::Uuid;

use super::shop::Shop;
use crate::{
    inventory::{self, ReservationEnd},
    mail_templates,
    notifications::DELIVER_NOTIFICATION,
    orders::{self, Order, OrderStatus, OrderStatusChange},
    sagas::ORDER_SHIPPED,
    support::{
        audit::{self, AuditActor, AuditEntry},
        bounds::REASON,
        change_error::ChangeError,
        outbox,
    },
};

/// An order can't change from its status to another.
#[derive(Debug, thiserror::Error)]
#[error("an order that is {from} can't become {to}")]
pub struct IllegalStatus {
    /// The status of the order.
    pub from: OrderStatus,
    /// The status that was asked for.
    pub to: OrderStatus,
    /// The statuses to which a person can change it.
    pub allowed: Vec<OrderStatus>,
}

/// The status of an order was not changed.
pub type StatusError = ChangeError<IllegalStatus>;

/// Changes an order's status as a person may: confirmed, processing, shipped, delivered. Shipping consumes the reserved
/// stock and starts the mail to the customer in the same commit.
///
/// # Errors
/// See [`StatusError`]. Nothing has changed then, unless the database's answer was lost.
pub async fn set_order_status(
    shop: &Shop,
    order_id: Uuid,
    to: OrderStatus,
    reason: Option<&str>,
    by: impl Into<AuditActor<'_>>,
    expected_version: Option<i64>,
) -> Result<Order, StatusError> {
    let by = by.into();
    let actor = by.actor;
    if let Some(violation) = reason.and_then(|reason| REASON.violation("/reason", reason)) {
        return Err(StatusError::Invalid(vec![violation]));
    }
    let mut tx = shop.pool().begin().await?;
    let (from, version) =
        orders::lock_orders(&mut tx, &[order_id]).await?.remove(&order_id).ok_or(StatusError::NotFound)?;
    if expected_version.is_some_and(|expected| expected != version) {
        return Err(StatusError::VersionMismatch { current: version });
    }
    if !from.next_by_hand().contains(&to) {
        return Err(StatusError::Refused(IllegalStatus { from, to, allowed: from.next_by_hand().to_vec() }));
    }
    if to == OrderStatus::Shipped {
        inventory::end_reservations(&mut tx, actor, &[order_id], ReservationEnd::Consumed).await?;
    }
    let moved =
        orders::change_statuses(&mut tx, &[OrderStatusChange { order_id, from, to, actor, reason }]).await?;
    let events: Vec<_> = moved.iter().map(orders::ChangedOrder::event).collect();
    outbox::append(&mut tx, &events).await?;
    let subject = order_id.to_string();
    let change = AuditEntry::new("order.status", "order", &subject).reason(reason);
    let (before, after) = (json!({"status": from.name()}), json!({"status": to.name()}));
    audit::record(&mut tx, &by, &[change.before(before).after(after)]).await?;
    let order = orders::read(&mut tx, order_id).await?.ok_or(StatusError::NotFound)?;
    if to == OrderStatus::Shipped {
        let mail = DELIVER_NOTIFICATION.with(&mail_templates::shipped(&order));
        shop.start_in(&mut tx, vec![mail.business_key(format!("{ORDER_SHIPPED}{order_id}"))]).await?;
    }
    tx.commit().await?;
    Ok(order)
}
