//! Returns as they are shown, and filters for listing them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx_macros::FromRow;
use uuid::Uuid;

use super::status::ReturnStatus;

/// A return with its lines and its timeline.
#[derive(Clone, Debug, Serialize, FromRow)]
pub struct OrderReturn {
    /// The return's id.
    pub return_id: Uuid,
    /// The order of which something is returned.
    pub order_id: Uuid,
    /// The status of the return.
    pub status: ReturnStatus,
    /// The reason for the status, if there is one.
    pub status_reason: Option<String>,
    /// Why it is returned.
    pub reason: String,
    /// The units, by SKU.
    #[sqlx(json)]
    pub items: Vec<ReturnLine>,
    /// Every status that the return has had, oldest first.
    #[sqlx(json)]
    pub timeline: Vec<ReturnTimelineEntry>,
    /// The saga of the return.
    pub workflow_id: Uuid,
    /// The version; it grows with every change of status.
    pub version: i64,
    /// When it was requested.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

/// The units of one product in a return.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReturnLine {
    /// The product's SKU.
    pub sku: String,
    /// How many are announced.
    pub quantity: i64,
    /// How many were in the parcel; `None` until it is here.
    pub received: Option<i64>,
    /// How many of those go back to stock.
    pub restocked: Option<i64>,
}

/// One status that a return has had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReturnTimelineEntry {
    /// The status.
    pub status: ReturnStatus,
    /// When the return got this status.
    pub at: DateTime<Utc>,
    /// The person or saga that changed the status.
    pub actor: String,
    /// The reason for the change, if there is one.
    pub reason: Option<String>,
}

/// Which returns to list; all given conditions have to hold.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReturnFilter {
    /// The return has this status.
    pub status: Option<ReturnStatus>,
    /// The return is of this order. An order has few returns.
    pub order_id: Option<Uuid>,
}
