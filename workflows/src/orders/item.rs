//! The items of an order to place.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::support::bounds::{ORDERED_SKU, QUANTITY};

/// One line of an order to be placed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = NewOrderItem))]
#[serde(deny_unknown_fields)]
pub struct OrderItem {
    /// The SKU of the product.
    #[schemars(length(min = ORDERED_SKU.min, max = ORDERED_SKU.max))]
    #[cfg_attr(feature = "openapi", schema(format = "ordered-sku", example = "TEA-1"))]
    pub sku: String,
    /// The quantity.
    #[schemars(range(min = QUANTITY.min, max = QUANTITY.max))]
    #[cfg_attr(feature = "openapi", schema(format = "quantity", example = 2))]
    pub quantity: i64,
}
