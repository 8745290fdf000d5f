//! Products and their stock.

mod body;
pub(crate) mod create;
pub(crate) mod get;
pub(crate) mod get_ledger;
pub(crate) mod list;
pub(crate) mod list_by_category;
pub(crate) mod list_low_stock;
mod listing;
pub(crate) mod update;
pub(crate) mod update_stock;
pub(crate) mod upsert;
