//! Products, how much of each there is, and who holds it.
//!
//! `available = on_hand − reserved`, never below zero. Every change of a level is a row of the ledger
//! (`shop.stock_movement`), from which the levels can be recomputed, and an `inventory.updated` event.

mod bulk;
mod create;
mod details;
mod ledger;
mod levels;
mod movement;
mod product;
mod reservation;
mod stock;

pub use bulk::{BulkItem, ListedProduct, MAX_BULK_PRODUCTS, UpsertError, Upserted, upsert_products};
pub use create::{CreateProductError, NewProduct, create_product, create_product_as};
pub use details::{ProductDetails, UpdateProductError, update_product};
pub use ledger::{LedgerEntry, ledger};
pub(crate) use levels::Shortage;
pub use movement::MovementKind;
pub(crate) use product::{CatalogEntry, catalog_entries};
pub use product::{Product, ProductFilter, StockLevels, StockState, product, products};
pub(crate) use reservation::{
    LowStock, ReservationEnd, ReservationRequest, Reservations, end_reservations, reserve,
};
pub use stock::{StockChange, StockError, change_stock};
