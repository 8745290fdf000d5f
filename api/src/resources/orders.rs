//! Orders: place, read, change status, cancel.

mod body;
pub(crate) mod cancel;
pub(crate) mod create;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod list_by_customer;
pub(crate) mod list_by_status;
mod listing;
pub(crate) mod update_status;
