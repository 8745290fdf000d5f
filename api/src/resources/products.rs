//! Products and their stock.

mod body;
mod bulk;
mod create;
mod ledger;
mod read;
mod stock;
mod update;

use serde_json::{Value, json};
use uuid::Uuid;

pub(crate) use bulk::{__path_upsert_products, upsert_products};
pub(crate) use create::{__path_create_product, create_product};
pub(crate) use ledger::{__path_get_product_ledger, get_product_ledger};
pub(crate) use read::{
    __path_get_product, __path_list_low_stock_products, __path_list_products,
    __path_list_products_by_category, get_product, list_low_stock_products, list_products,
    list_products_by_category,
};
pub(crate) use stock::{__path_update_stock, update_stock};
pub(crate) use update::{__path_update_product, update_product};

use crate::{http::Problem, state::ApiState};

async fn load(state: &ApiState, id: Uuid) -> Result<shop::inventory::Product, Problem> {
    let product = shop::inventory::product(state.pool(), id).await?;
    product.ok_or_else(|| Problem::not_found("product", id))
}

fn example() -> Value {
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
