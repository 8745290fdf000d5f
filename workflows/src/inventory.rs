//! Products, their stock, and the orders that reserve it.
//!
//! `available = on_hand − reserved`, never below zero. Every change of a level appends an entry to the ledger
//! (`shop.stock_movement`), from which the levels can be recomputed, and an `inventory.updated` event.

mod details;
mod levels;
mod low_stock;
mod movement;
mod outdated_skus;
mod product;
mod read;
mod reservation;
mod reserve;
mod restock;
mod stock_events;
mod write;

pub(crate) use details::{Current, Details};
pub use details::{NewProduct, ProductDetails};
pub(crate) use levels::{Level, Shortage, crossed_threshold};
pub(crate) use low_stock::LowStock;
pub(crate) use movement::Movement;
pub use movement::{LedgerEntry, MovementKind};
pub use outdated_skus::{OutdatedSku, outdated_skus};
pub(crate) use product::CatalogEntry;
pub use product::{Product, ProductFilter, StockLevels, StockState};
pub(crate) use read::{any_product, catalog_entries, read, sku_of};
pub use read::{ledger, product, products};
pub(crate) use reservation::{ReservationEnd, ReservationRequest, Reservations};
pub(crate) use reserve::{end_reservations, reserve};
pub(crate) use restock::{Restock, restock};
pub(crate) use stock_events::{low, updated};
pub(crate) use write::{
    append_movements, insert_products, insert_stock, lock_level, lock_products, update_details,
    update_levels, update_thresholds,
};
