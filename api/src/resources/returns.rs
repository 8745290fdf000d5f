//! Returns of orders: request, read, approve, reject, receive.

pub(crate) mod approve;
mod body;
pub(crate) mod create;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod list_by_order;
mod listing;
pub(crate) mod receive;
pub(crate) mod reject;
