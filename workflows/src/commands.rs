//! The commands of the shop: what callers can do. Each checks its input, changes the shop in one transaction or starts
//! a saga, and records in the audit log who asked for it.

mod api_keys;
mod cancel_order;
mod change_stock;
mod consumers;
mod create_product;
mod decide_return;
mod level_changes;
mod place_order;
mod request_return;
mod seed;
mod send_notification;
mod set_order_status;
mod set_queue;
mod shop;
mod start_workflow;
mod update_product;
mod upsert_products;

pub use api_keys::{KeyError, create_key, revoke_key};
pub use cancel_order::{CancelOrderError, CancelRefusal, cancel_order, cancel_order_version};
pub use change_stock::{StockChange, StockError, StockRefusal, change_stock};
pub use consumers::{Removal, RemovalMode, remove_consumer, replay_events};
pub use create_product::{CreateProductError, create_product, create_product_as};
pub use decide_return::{ReturnError, ReturnRefusal, approve_return, receive_return, reject_return};
pub use place_order::{PlaceOrderError, place_order, place_order_as};
pub use request_return::{RequestReturnError, request_return};
pub use seed::{SeedError, seed_if_empty};
pub use send_notification::{
    AcceptedNotification, SendNotification, SendNotificationError, send_notification,
};
pub use set_order_status::{IllegalStatus, StatusError, set_order_status};
pub use set_queue::{DesiredState, QueueError, set_queue};
pub use shop::Shop;
pub use start_workflow::{StartWorkflowError, WorkflowStart, start_workflow};
pub use update_product::{UpdateProductError, update_product};
pub use upsert_products::{
    BulkItem, ListedProduct, MAX_BULK_PRODUCTS, UpsertError, Upserted, upsert_products,
};
