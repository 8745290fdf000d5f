//! Products with low stock.

use super::levels::Level;

/// A product whose available stock fell to its threshold or below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LowStock {
    pub(crate) sku: String,
    pub(crate) available: i64,
    pub(crate) threshold: i64,
}

impl LowStock {
    pub(crate) fn of(sku: &str, level: Level) -> Self {
        Self { sku: sku.into(), available: level.available(), threshold: level.low_stock_threshold }
    }
}
