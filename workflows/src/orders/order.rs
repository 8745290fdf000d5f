//! Orders as they are shown, and filters for listing them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx_macros::FromRow;
use uuid::Uuid;

use super::status::OrderStatus;

/// An order with its items and its timeline.
#[derive(Clone, Debug, Serialize, FromRow)]
pub struct Order {
    /// The order's id.
    pub order_id: Uuid,
    /// The customer's id.
    pub customer_id: Uuid,
    /// The address for mails about the order.
    pub customer_email: String,
    /// The status of the order.
    pub status: OrderStatus,
    /// The reason for the status, if there is one.
    pub status_reason: Option<String>,
    /// The currency's ISO 4217 code.
    pub currency: String,
    /// The sum of the items, in minor units of the currency.
    pub total: i64,
    /// The items, in the order in which they were given.
    #[sqlx(json)]
    pub items: Vec<OrderLine>,
    /// Every status that the order has had, oldest first.
    #[sqlx(json)]
    pub timeline: Vec<TimelineEntry>,
    /// Until when the order waits for its payment, or waited; `None` if it never did.
    pub payment_due_at: Option<DateTime<Utc>>,
    /// The saga that places the order.
    pub workflow_id: Uuid,
    /// The version; it grows with every change.
    pub version: i64,
    /// When the order was accepted.
    pub created_at: DateTime<Utc>,
    /// When the order last changed.
    pub updated_at: DateTime<Utc>,
}

/// One item of an order, with the name and price at the time of the order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderLine {
    /// The product's SKU.
    pub sku: String,
    /// The product's name.
    pub name: String,
    /// The number of pieces.
    pub quantity: i64,
    /// The price of one piece, in minor units.
    pub unit_price: i64,
    /// The price of all pieces, in minor units.
    pub line_total: i64,
}

/// One status that an order has had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineEntry {
    /// The status.
    pub status: OrderStatus,
    /// When the order got this status.
    pub at: DateTime<Utc>,
    /// The person or saga that changed the status.
    pub actor: String,
    /// The reason for the change, if there is one.
    pub reason: Option<String>,
}

/// Which orders to list; all given conditions have to hold.
#[derive(Clone, Debug, Default)]
pub struct OrderFilter {
    /// The order has this status.
    pub status: Option<OrderStatus>,
    /// The order is of this customer.
    pub customer_id: Option<Uuid>,
    /// The order was accepted after this time.
    pub created_after: Option<DateTime<Utc>>,
    /// The order was accepted before this time.
    pub created_before: Option<DateTime<Utc>>,
}

impl OrderFilter {
    /// Whether the list is sorted by time.
    pub(crate) fn is_by_time(&self) -> bool {
        self.created_after.is_some() || self.created_before.is_some()
    }

    /// The status, if nothing else is asked for.
    pub(crate) fn only_status(&self) -> Option<OrderStatus> {
        self.status.filter(|_| self.customer_id.is_none() && !self.is_by_time())
    }

    /// Whether the list may have to look at many orders before a page is full. Indexes lead to those of a customer, of a
    /// time and in a status, but not to those with two of them.
    pub fn may_scan(&self) -> bool {
        match self.only_status() {
            Some(status) => status.path().may_scan(),
            None => self.status.is_some() || self.is_by_time() && self.customer_id.is_some(),
        }
    }
}
