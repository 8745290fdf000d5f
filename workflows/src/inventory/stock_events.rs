//! The events about stock.

use serde_json::json;

use super::levels::Level;
use crate::support::outbox::NewEvent;

/// The event that a stock level has changed.
pub(crate) fn updated(sku: &str, level: Level, cause: &str, reason: Option<&str>) -> NewEvent {
    let payload = json!({
        "sku": sku,
        "on_hand": level.on_hand,
        "reserved": level.reserved,
        "available": level.available(),
        "low_stock_threshold": level.low_stock_threshold,
        "cause": cause,
        "reason": reason,
    });
    NewEvent::new("inventory.updated", &sku, &payload)
}

/// The event that the available stock has fallen to its threshold.
pub(crate) fn low(sku: &str, level: Level) -> NewEvent {
    let payload = json!({
        "sku": sku,
        "available": level.available(),
        "low_stock_threshold": level.low_stock_threshold,
    });
    NewEvent::new("inventory.low", &sku, &payload)
}
