//! The JSON of products.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shop::{Currency, inventory};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{Ref, RefOr, Schema, schema::OneOfBuilder},
};
use uuid::Uuid;

use crate::{
    resources::{page::list, versioned::Versioned},
    state::ApiState,
};

/// A change of the stock on hand: either `set` or `adjust`. It is one struct, so that errors name the field by its
/// pointer; in the OpenAPI document it is one of two.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StockUpdate {
    pub(crate) set: Option<i64>,
    pub(crate) adjust: Option<i64>,
    pub(crate) reason: String,
}

/// Sets the stock on hand to a counted number.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it is only documented")]
struct StockCount {
    /// The counted number.
    #[schema(format = "stock")]
    set: i64,
    /// The reason, for the ledger.
    #[schema(format = "required-reason", example = "count")]
    reason: String,
}

/// Adjusts the stock on hand by a difference.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it is only documented")]
struct StockAdjustment {
    /// The difference; negative for fewer.
    #[schema(format = "stock-difference")]
    adjust: i64,
    /// The reason, for the ledger.
    #[schema(format = "required-reason", example = "damaged")]
    reason: String,
}

impl PartialSchema for StockUpdate {
    fn schema() -> RefOr<Schema> {
        let members = [StockCount::name(), StockAdjustment::name()];
        let members = members.iter().map(|name| Ref::from_schema_name(name.as_ref()));
        let one_of = members.fold(OneOfBuilder::new(), OneOfBuilder::item);
        one_of.description(Some("A change of the stock on hand: either `set` or `adjust`.")).into()
    }
}

impl ToSchema for StockUpdate {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((StockCount::name().into_owned(), StockCount::schema()));
        schemas.push((StockAdjustment::name().into_owned(), StockAdjustment::schema()));
    }
}

/// A product and its stock.
#[derive(Debug, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the JSON names its id so")]
pub(crate) struct Product {
    pub(crate) product_id: Uuid,
    pub(crate) sku: String,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) category: String,
    /// The price of one, in minor units of the currency.
    pub(crate) price: i64,
    #[schema(value_type = Currency)]
    pub(crate) currency: String,
    pub(crate) stock: Stock,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
}

list!(ProductList of Product, "A page of products, newest first.");

/// The stock of a product.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Stock {
    /// In the warehouse.
    pub(crate) on_hand: i64,
    /// Of these, reserved for orders.
    pub(crate) reserved: i64,
    /// Of these, available to new orders.
    pub(crate) available: i64,
    /// The stock is low when this many or fewer are available.
    pub(crate) low_stock_threshold: i64,
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

impl Versioned for inventory::Product {
    const NOUN: &'static str = "product";
    type Id = Uuid;
    type Body = Product;

    fn version(&self) -> i64 {
        self.version
    }

    async fn find(state: &ApiState, id: &Uuid) -> Result<Option<Self>, sqlx::Error> {
        inventory::product(state.pool(), *id).await
    }
}

/// The example in the OpenAPI document.
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
