//! The details of a product, and the data of a new one: how they are checked and compared.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx_macros::FromRow;
use uuid::Uuid;

use super::levels::Level;
use crate::support::{
    bounds::{AMOUNT, CATEGORY, DESCRIPTION, PRODUCT_NAME, SKU, STOCK},
    validator::Validator,
    violation::Violation,
};

/// The details of a product: everything but its SKU and its stock.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = ProductUpdate))]
#[serde(deny_unknown_fields)]
pub struct ProductDetails {
    /// The name that customers see.
    #[cfg_attr(feature = "openapi", schema(format = "product-name"))]
    pub name: String,
    /// The description.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(format = "description"))]
    pub description: String,
    /// The category in which the product is listed.
    #[cfg_attr(feature = "openapi", schema(format = "category"))]
    pub category: String,
    /// The price of one, in minor units of the currency.
    #[cfg_attr(feature = "openapi", schema(format = "amount"))]
    pub price: i64,
    /// ISO 4217.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::support::currency_schema::Currency))]
    pub currency: String,
    /// The stock is low when this many or fewer are available.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(format = "stock"))]
    pub low_stock_threshold: i64,
}

impl ProductDetails {
    /// Checks the details, and returns all violations.
    pub fn violations(&self) -> Vec<Violation> {
        let mut validator = Validator::default();
        self.borrowed().check(&mut validator);
        validator.done()
    }

    pub(crate) fn borrowed(&self) -> Details<'_> {
        let Self { name, description, category, price, currency, low_stock_threshold } = self;
        Details {
            name,
            description,
            category,
            price: *price,
            currency,
            low_stock_threshold: *low_stock_threshold,
        }
    }
}

/// A product to be created.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewProduct {
    /// The unique name of the product in the shop.
    #[cfg_attr(feature = "openapi", schema(format = "sku", example = "TEA-1"))]
    pub sku: String,
    /// The name that customers see.
    #[cfg_attr(feature = "openapi", schema(format = "product-name"))]
    pub name: String,
    /// The description; it may have several lines.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(format = "description"))]
    pub description: String,
    /// The category in which the product is listed.
    #[cfg_attr(feature = "openapi", schema(format = "category"))]
    pub category: String,
    /// The price of one, in minor units of the currency.
    #[cfg_attr(feature = "openapi", schema(format = "amount"))]
    pub price: i64,
    /// ISO 4217.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::support::currency_schema::Currency))]
    pub currency: String,
    /// The stock on hand at the beginning.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(format = "stock"))]
    pub initial_stock: i64,
    /// The stock is low when this many or fewer are available.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(format = "stock"))]
    pub low_stock_threshold: i64,
}

impl NewProduct {
    /// Checks the product, and returns all violations.
    pub fn violations(&self) -> Vec<Violation> {
        let mut validator = Validator::default();
        validator.text("/sku", &self.sku, SKU);
        self.details().check(&mut validator);
        validator.number("/initial_stock", self.initial_stock, STOCK);
        validator.done()
    }

    pub(crate) fn details(&self) -> Details<'_> {
        Details {
            name: &self.name,
            description: &self.description,
            category: &self.category,
            price: self.price,
            currency: &self.currency,
            low_stock_threshold: self.low_stock_threshold,
        }
    }

    pub(crate) fn level(&self) -> Level {
        Level {
            version: 1,
            on_hand: self.initial_stock,
            reserved: 0,
            low_stock_threshold: self.low_stock_threshold,
        }
    }
}

/// Borrowed [`ProductDetails`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Details<'a> {
    pub(crate) name: &'a str,
    pub(crate) description: &'a str,
    pub(crate) category: &'a str,
    pub(crate) price: i64,
    pub(crate) currency: &'a str,
    pub(crate) low_stock_threshold: i64,
}

impl Details<'_> {
    pub(crate) fn check(&self, validator: &mut Validator) {
        validator.text("/name", self.name, PRODUCT_NAME);
        validator.text("/description", self.description, DESCRIPTION);
        validator.text("/category", self.category, CATEGORY);
        validator.number("/price", self.price, AMOUNT);
        validator.currency("/currency", self.currency);
        validator.number("/low_stock_threshold", self.low_stock_threshold, STOCK);
    }

    /// The audit log's JSON of a product's details.
    pub(crate) fn audit_json(&self) -> Value {
        json!({
            "name": self.name, "description": self.description, "category": self.category, "price": self.price,
            "currency": self.currency, "low_stock_threshold": self.low_stock_threshold,
        })
    }

    /// Whether both are equal apart from the low-stock threshold.
    pub(crate) fn reads_as(&self, other: &Self) -> bool {
        let plain = |one: &Self| Self { low_stock_threshold: 0, ..*one };
        plain(self) == plain(other)
    }
}

/// A locked product with its details and its stock level.
#[derive(Debug, FromRow)]
pub(crate) struct Current {
    pub(crate) product_id: Uuid,
    pub(crate) sku: String,
    name: String,
    description: String,
    category: String,
    price: i64,
    currency: String,
    on_hand: i64,
    reserved: i64,
    low_stock_threshold: i64,
    pub(crate) version: i64,
}

impl Current {
    pub(crate) fn details(&self) -> Details<'_> {
        Details {
            name: &self.name,
            description: &self.description,
            category: &self.category,
            price: self.price,
            currency: &self.currency,
            low_stock_threshold: self.low_stock_threshold,
        }
    }

    pub(crate) fn level(&self) -> Level {
        Level {
            version: self.version,
            on_hand: self.on_hand,
            reserved: self.reserved,
            low_stock_threshold: self.low_stock_threshold,
        }
    }
}
