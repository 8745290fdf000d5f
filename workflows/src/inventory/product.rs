//! Products as they are shown, and filters for listing them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx_macros::FromRow;
use uuid::Uuid;

/// A product with its stock.
#[derive(Clone, Debug, Serialize, FromRow)]
pub struct Product {
    /// The product's id.
    pub product_id: Uuid,
    /// The shop's own identifier of the product.
    pub sku: String,
    /// The name that customers see.
    pub name: String,
    /// The description that customers see.
    pub description: String,
    /// The category that the product is listed in.
    pub category: String,
    /// The price of one piece, in minor units of the currency.
    pub price: i64,
    /// The currency's ISO 4217 code.
    pub currency: String,
    /// The stock levels.
    #[sqlx(flatten)]
    pub stock: StockLevels,
    /// The version; it grows with every change of the product or its stock.
    pub version: i64,
    /// When the product was created.
    pub created_at: DateTime<Utc>,
    /// When the product or its stock last changed.
    pub updated_at: DateTime<Utc>,
}

/// The stock levels of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, FromRow)]
pub struct StockLevels {
    /// The number of pieces in the warehouse.
    pub on_hand: i64,
    /// How many of these are reserved for orders.
    pub reserved: i64,
    /// How many of these can still be ordered.
    pub available: i64,
    /// Stock is low at this many available or fewer.
    pub low_stock_threshold: i64,
}

/// Which products to list; all given conditions have to hold.
#[derive(Clone, Debug, Default)]
pub struct ProductFilter {
    /// The name or SKU contains this text, in any case.
    pub search: Option<String>,
    /// The product is in this category.
    pub category: Option<String>,
    /// The product's stock is in this state.
    pub stock: Option<StockState>,
}

impl ProductFilter {
    /// Whether the list may have to scan the whole catalog before a page is full.
    pub fn may_scan(&self) -> bool {
        self.search.is_some() || self.stock.is_some()
    }
}

/// A state of a product's stock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StockState {
    /// The available stock is at its threshold or below.
    Low,
}

/// The name and price of a product now.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub(crate) struct CatalogEntry {
    pub(crate) sku: String,
    pub(crate) name: String,
    pub(crate) price: i64,
    pub(crate) currency: String,
}
