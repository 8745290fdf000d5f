//! "Stock of a product is low", or of several.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::mail_template::{MailTemplate, mail_template};
use crate::support::{
    bounds::{NumberBounds, SKU},
    validator::Validator,
};

/// The most products that one mail lists.
pub(crate) const MAX_LISTED_PRODUCTS: usize = 50;

const MORE: NumberBounds = NumberBounds { name: "more", min: 0, max: 1_000_000 };

/// "Stock of a product is low", or of several whose stock fell together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LowStockAlert {
    /// The products; 1 to 50.
    #[schemars(length(min = 1, max = 50))]
    pub products: Vec<LowProduct>,
    /// How many more products are low that are not listed.
    #[serde(default)]
    #[schemars(range(min = MORE.min, max = MORE.max))]
    pub more: i64,
}

/// A product with low stock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LowProduct {
    /// The product's SKU.
    #[schemars(length(min = SKU.min, max = SKU.max))]
    pub sku: String,
    /// How many can still be ordered.
    pub available: i64,
    /// Stock is low at this many available or fewer.
    pub threshold: i64,
}

impl MailTemplate for LowStockAlert {
    mail_template!(LowStockAlert, "low-stock", "low-stock.txt", "low-stock.html");

    const DESCRIPTION: &'static str =
        "Tells those who run the shop that there is little left of a product, or of several.";

    fn subject(&self) -> String {
        match (self.products.as_slice(), self.more) {
            ([one], 0) => format!("Stock of {} is low", one.sku),
            (listed, more) => {
                let listed = i64::try_from(listed.len()).unwrap_or(i64::MAX);
                format!("Stock of {} products is low", listed.saturating_add(more))
            }
        }
    }

    fn check(&self, validator: &mut Validator) {
        if !(1..=MAX_LISTED_PRODUCTS).contains(&self.products.len()) {
            validator.add(
                "/products",
                "wrong-length",
                format!("must have 1 to {MAX_LISTED_PRODUCTS} products"),
            );
        }
        for (nth, product) in self.products.iter().enumerate().take(MAX_LISTED_PRODUCTS) {
            validator.text(&format!("/products/{nth}/sku"), &product.sku, SKU);
        }
        validator.number("/more", self.more, MORE);
    }

    fn example() -> Self {
        Self { products: vec![LowProduct { sku: "TEA-1".into(), available: 4, threshold: 5 }], more: 0 }
    }
}
