//! Orders as they are shown, and which to list.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx_macros::FromRow;
use uuid::Uuid;

use super::status::OrderStatus;

/// An order with its lines and its life.
#[derive(Clone, Debug, Serialize, FromRow)]
pub struct Order {
    /// Its id.
    pub order_id: Uuid,
    /// Who ordered.
    pub customer_id: Uuid,
    /// Where mails about it go.
    pub customer_email: String,
    /// Where it is in its life.
    pub status: OrderStatus,
    /// Why it is there, where there is a why.
    pub status_reason: Option<String>,
    /// ISO 4217.
    pub currency: String,
    /// The sum of its lines, in minor units of the currency.
    pub total: i64,
    /// Its lines, as they were ordered.
    #[sqlx(json)]
    pub items: Vec<OrderLine>,
    /// Every status it had, oldest first.
    #[sqlx(json)]
    pub timeline: Vec<TimelineEntry>,
    /// The saga that places it.
    pub workflow_id: Uuid,
    /// Grows with every change.
    pub version: i64,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// When it changed last.
    pub updated_at: DateTime<Utc>,
}

/// One line of an order, with name and price as they were then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderLine {
    /// What was ordered.
    pub sku: String,
    /// What it was called.
    pub name: String,
    /// How many.
    pub quantity: i64,
    /// What one cost, in minor units.
    pub unit_price: i64,
    /// What all of them cost, in minor units.
    pub line_total: i64,
}

/// One status that an order had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineEntry {
    /// The status.
    pub status: OrderStatus,
    /// Since when.
    pub at: DateTime<Utc>,
    /// Who, or which saga, brought it there.
    pub actor: String,
    /// Why, where there is a why.
    pub reason: Option<String>,
}

/// Which orders to list; every field narrows.
#[derive(Clone, Debug, Default)]
pub struct OrderFilter {
    /// In this status.
    pub status: Option<OrderStatus>,
    /// Of this customer.
    pub customer_id: Option<Uuid>,
    /// Accepted after this.
    pub created_after: Option<DateTime<Utc>>,
    /// Accepted before this.
    pub created_before: Option<DateTime<Utc>>,
}

impl OrderFilter {
    /// Whether many orders may have to be looked at before a page is full.
    pub fn may_scan(&self) -> bool {
        self.status.is_some() || self.created_after.is_some() || self.created_before.is_some()
    }
}
