//! Products, how much of each there is, and who holds it.
//!
//! `available = on_hand − reserved`, never below zero. Every change of a level is a row of the ledger
//! (`shop.stock_movement`), from which the levels can be recomputed.

mod levels;
mod movement;
mod product;
mod reservation;
mod stock;

pub(crate) use levels::Short;
pub use product::{
    CreateProductError, NewProduct, Product, ProductFilter, StockLevels, create_product, create_product_as,
    product, products,
};
pub(crate) use product::{Listing, listings};
pub(crate) use reservation::{Claim, LowStock, Reservations, Settlement, reserve, settle};
pub use stock::{StockChange, StockError, change_stock};
