//! One line of an order to be placed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One line of an order to be placed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderItem {
    /// The product's SKU.
    #[schemars(length(min = 1, max = 64))]
    pub sku: String,
    /// How many: 1 to 1,000,000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub quantity: i64,
}
