//! New orders and changes of status: the rows to write and their events.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx_macros::FromRow;
use uuid::Uuid;

use super::{pricing::PricedOrder, status::OrderStatus};
use crate::support::{audit::AuditActor, outbox::NewEvent};

/// An order to be stored as pending.
#[derive(Debug)]
pub(crate) struct NewOrderRow<'a> {
    pub(crate) order_id: Uuid,
    pub(crate) customer_id: Uuid,
    pub(crate) customer_email: &'a str,
    pub(crate) workflow_id: Uuid,
    pub(crate) actor: &'a str,
    /// Who placed it, for the audit log; `None` if that is recorded elsewhere.
    pub(crate) audited: Option<AuditActor<'a>>,
    pub(crate) priced: &'a PricedOrder,
    /// Until when it waits for its payment.
    pub(crate) payment_due_at: Option<DateTime<Utc>>,
}

impl NewOrderRow<'_> {
    /// The event that the order was created.
    pub(crate) fn created(&self) -> NewEvent {
        let items: Vec<Value> = self
            .priced
            .lines
            .iter()
            .map(|line| json!({"sku": line.sku, "quantity": line.quantity, "unit_price": line.unit_price}))
            .collect();
        let payload = json!({
            "order_id": self.order_id,
            "customer_id": self.customer_id,
            "status": OrderStatus::Pending,
            "currency": self.priced.currency,
            "total": self.priced.total,
            "items": items,
            "payment_due_at": self.payment_due_at,
        });
        NewEvent::new("order.created", &self.order_id, &payload)
    }
}

/// A change of one order's status.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OrderStatusChange<'a> {
    pub(crate) order_id: Uuid,
    pub(crate) from: OrderStatus,
    pub(crate) to: OrderStatus,
    pub(crate) actor: &'a str,
    pub(crate) reason: Option<&'a str>,
}

/// An order whose status has changed.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct ChangedOrder {
    pub(crate) order_id: Uuid,
    pub(crate) customer_id: Uuid,
    pub(crate) customer_email: String,
    pub(crate) status: OrderStatus,
    pub(crate) status_reason: Option<String>,
    pub(crate) version: i64,
    pub(crate) currency: String,
    pub(crate) total: i64,
    pub(crate) updated_at: DateTime<Utc>,
}

impl ChangedOrder {
    /// The event of the new status.
    pub(crate) fn event(&self) -> NewEvent {
        let routing_key = match self.status {
            OrderStatus::Confirmed => "order.confirmed",
            OrderStatus::Rejected => "order.rejected",
            OrderStatus::Cancelled => "order.cancelled",
            OrderStatus::Returned => "order.returned",
            OrderStatus::Pending
            | OrderStatus::Processing
            | OrderStatus::Shipped
            | OrderStatus::Delivered
            | OrderStatus::Cancelling => "order.status_changed",
        };
        let payload = json!({
            "order_id": self.order_id,
            "customer_id": self.customer_id,
            "status": self.status,
            "status_reason": self.status_reason,
            "version": self.version,
            "currency": self.currency,
            "total": self.total,
            "at": self.updated_at,
        });
        NewEvent::new(routing_key, &self.order_id, &payload)
    }
}
