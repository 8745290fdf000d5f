//! Products as they are shown, and which to list.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx_macros::FromRow;
use uuid::Uuid;

/// A product and its stock.
#[derive(Clone, Debug, Serialize, FromRow)]
pub struct Product {
    /// Its id.
    pub product_id: Uuid,
    /// The shop's own name for it.
    pub sku: String,
    /// The name customers see.
    pub name: String,
    /// What it is.
    pub description: String,
    /// What it is listed under.
    pub category: String,
    /// What one costs, in minor units of the currency.
    pub price: i64,
    /// ISO 4217.
    pub currency: String,
    /// How many there are.
    #[sqlx(flatten)]
    pub stock: StockLevels,
    /// Grows with every change, of the stock too.
    pub version: i64,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it, or its stock, changed last.
    pub updated_at: DateTime<Utc>,
}

/// How many there are of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, FromRow)]
pub struct StockLevels {
    /// In the warehouse.
    pub on_hand: i64,
    /// Of these, held by orders.
    pub reserved: i64,
    /// Of these, free to be ordered.
    pub available: i64,
    /// At or under this many available, stock is low.
    pub low_stock_threshold: i64,
}

/// Which products to list; every field narrows.
#[derive(Clone, Debug, Default)]
pub struct ProductFilter {
    /// Whose name or SKU contains this, whatever the case.
    pub search: Option<String>,
    /// In this category.
    pub category: Option<String>,
    /// In this state of stock.
    pub stock: Option<StockState>,
}

impl ProductFilter {
    /// Whether the whole catalogue may have to be looked at before a page is full.
    pub fn may_scan(&self) -> bool {
        self.search.is_some() || self.stock.is_some()
    }
}

/// How a product's stock is, by its threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StockState {
    /// No more are available than its threshold says.
    Low,
}

/// What a product is called and costs now.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub(crate) struct CatalogEntry {
    pub(crate) sku: String,
    pub(crate) name: String,
    pub(crate) price: i64,
    pub(crate) currency: String,
}
