//! The JSON of products.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shop::{commands, inventory};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr, Schema,
        schema::{ObjectBuilder, OneOfBuilder, Type},
    },
};
use uuid::Uuid;

use crate::resources::page::list;

/// A product to be created.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewProduct {
    /// The shop's own name for it, unique.
    #[schema(min_length = 1, max_length = 64, format = "line", example = "TEA-1")]
    pub(crate) sku: String,
    /// The name customers see.
    #[schema(min_length = 1, max_length = 200, format = "line")]
    pub(crate) name: String,
    /// What it is; it may have several lines.
    #[serde(default)]
    #[schema(max_length = 4000, format = "prose")]
    pub(crate) description: String,
    /// What it is listed under.
    #[schema(min_length = 1, max_length = 64, format = "line")]
    pub(crate) category: String,
    /// What one costs, in minor units of the currency.
    #[schema(minimum = 0)]
    pub(crate) price: i64,
    /// ISO 4217.
    #[schema(value_type = Currency)]
    pub(crate) currency: String,
    /// How many there are.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    pub(crate) initial_stock: i64,
    /// At or under this many available, stock is low.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    pub(crate) low_stock_threshold: i64,
}

/// One of many products. What is left out of one that there is stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListedProduct {
    /// The shop's own name for it, by which it is known.
    #[schema(min_length = 1, max_length = 64, format = "line", example = "TEA-1")]
    pub(crate) sku: String,
    /// The name customers see.
    #[schema(min_length = 1, max_length = 200, format = "line")]
    pub(crate) name: String,
    /// What it is; it may have several lines. Left out or `null`, it stays; a new one has none.
    #[schema(max_length = 4000, format = "prose")]
    pub(crate) description: Option<String>,
    /// What it is listed under.
    #[schema(min_length = 1, max_length = 64, format = "line")]
    pub(crate) category: String,
    /// What one costs, in minor units of the currency.
    #[schema(minimum = 0)]
    pub(crate) price: i64,
    #[schema(value_type = Currency)]
    pub(crate) currency: String,
    /// How many there are of a new one; of one that there is, it says nothing.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    pub(crate) initial_stock: i64,
    /// At or under this many available, stock is low. Left out or `null`, it stays; that of a new one is 0.
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    pub(crate) low_stock_threshold: Option<i64>,
}

/// What is said about a product, all but its SKU and its stock.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProductUpdate {
    /// The name customers see.
    #[schema(min_length = 1, max_length = 200, format = "line")]
    pub(crate) name: String,
    /// What it is.
    #[serde(default)]
    #[schema(max_length = 4000, format = "prose")]
    pub(crate) description: String,
    /// What it is listed under.
    #[schema(min_length = 1, max_length = 64, format = "line")]
    pub(crate) category: String,
    /// What one costs, in minor units of the currency.
    #[schema(minimum = 0)]
    pub(crate) price: i64,
    /// ISO 4217.
    #[schema(value_type = Currency)]
    pub(crate) currency: String,
    /// At or under this many available, stock is low.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    pub(crate) low_stock_threshold: i64,
}

/// A change of what is on hand: either `set` or `adjust`. One struct, so that what is wrong is told by its pointer; two
/// in the document, where it is one or the other.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StockUpdate {
    pub(crate) set: Option<i64>,
    pub(crate) adjust: Option<i64>,
    pub(crate) reason: String,
}

/// There are this many, as counted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it is only documented")]
struct StockCount {
    /// How many there are.
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    set: i64,
    /// Why, for the ledger.
    #[schema(min_length = 1, max_length = 500, format = "non-blank-line", example = "count")]
    reason: String,
}

/// There are more, or fewer.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it is only documented")]
struct StockAdjustment {
    /// How many more; fewer when negative.
    #[schema(minimum = -1_000_000_000_000_i64, maximum = 1_000_000_000_000_i64)]
    adjust: i64,
    /// Why, for the ledger.
    #[schema(min_length = 1, max_length = 500, format = "non-blank-line", example = "damaged")]
    reason: String,
}

impl PartialSchema for StockUpdate {
    fn schema() -> RefOr<Schema> {
        let one_of = OneOfBuilder::new().item(StockCount::schema()).item(StockAdjustment::schema());
        one_of.description(Some("A change of what is on hand: either `set` or `adjust`.")).into()
    }
}

impl ToSchema for StockUpdate {}

/// The currency of a price: a code of ISO 4217.
struct Currency;

impl PartialSchema for Currency {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("The currency of a price: a code of ISO 4217 that has minor units."))
            .enum_values(Some(shop::currencies()))
            .into()
    }
}

impl ToSchema for Currency {}

/// A product and its stock.
#[derive(Debug, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the JSON names its id so")]
pub(crate) struct Product {
    pub(crate) product_id: Uuid,
    pub(crate) sku: String,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) category: String,
    /// What one costs, in minor units of the currency.
    pub(crate) price: i64,
    /// ISO 4217.
    pub(crate) currency: String,
    pub(crate) stock: Stock,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
}

list!(ProductList of Product, "A page of products, newest first.");

/// How many there are of a product.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Stock {
    /// In the warehouse.
    pub(crate) on_hand: i64,
    /// Of these, held by orders.
    pub(crate) reserved: i64,
    /// Of these, free to be ordered.
    pub(crate) available: i64,
    /// At or under this many available, stock is low.
    pub(crate) low_stock_threshold: i64,
}

impl From<NewProduct> for inventory::NewProduct {
    fn from(new: NewProduct) -> Self {
        Self {
            sku: new.sku,
            name: new.name,
            description: new.description,
            category: new.category,
            price: new.price,
            currency: new.currency,
            initial_stock: new.initial_stock,
            low_stock_threshold: new.low_stock_threshold,
        }
    }
}

impl From<ListedProduct> for commands::ListedProduct {
    fn from(listed: ListedProduct) -> Self {
        let ListedProduct {
            sku,
            name,
            description,
            category,
            price,
            currency,
            initial_stock,
            low_stock_threshold,
        } = listed;
        Self { sku, name, description, category, price, currency, initial_stock, low_stock_threshold }
    }
}

impl From<ProductUpdate> for inventory::ProductDetails {
    fn from(update: ProductUpdate) -> Self {
        Self {
            name: update.name,
            description: update.description,
            category: update.category,
            price: update.price,
            currency: update.currency,
            low_stock_threshold: update.low_stock_threshold,
        }
    }
}

impl From<inventory::Product> for Product {
    fn from(product: inventory::Product) -> Self {
        let inventory::StockLevels { on_hand, reserved, available, low_stock_threshold } = product.stock;
        Self {
            product_id: product.product_id,
            sku: product.sku,
            name: product.name,
            description: product.description,
            category: product.category,
            price: product.price,
            currency: product.currency,
            stock: Stock { on_hand, reserved, available, low_stock_threshold },
            created_at: product.created_at,
            updated_at: product.updated_at,
        }
    }
}

/// The example of the document.
pub(super) fn example() -> Value {
    json!({
        "product_id": "0199f3a0-1111-7222-8333-444455556666",
        "sku": "TEA-1",
        "name": "Green tea",
        "description": "Sencha, 100 g",
        "category": "tea",
        "price": 1290,
        "currency": "EUR",
        "stock": {"on_hand": 50, "reserved": 2, "available": 48, "low_stock_threshold": 5},
        "created_at": "2026-11-22T10:00:00.000123Z",
        "updated_at": "2026-11-22T10:00:00.000123Z"
    })
}
