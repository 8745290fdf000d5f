//! One line of an order to be placed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::support::bounds::{QUANTITY, SKU};

/// One line of an order to be placed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderItem {
    /// The SKU of the product.
    #[schemars(length(min = SKU.min, max = SKU.max))]
    pub sku: String,
    /// The quantity.
    #[schemars(range(min = QUANTITY.min, max = QUANTITY.max))]
    pub quantity: i64,
}
