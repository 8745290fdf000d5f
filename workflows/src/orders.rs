//! Orders: their lines, their total, their life, and who may change it.

mod cancel;
mod change;
mod place;
mod pricing;
mod read;
mod rows;
mod status;

pub use cancel::{CancelOrderError, cancel, cancel_version};
pub use change::{StatusError, set_status};
pub(crate) use place::check;
pub use place::{OrderItem, PlaceError, PlaceOrder, place};
pub(crate) use pricing::{PricedOrder, price};
pub use read::{Order, OrderFilter, OrderLine, TimelineEntry, get, list};
pub(crate) use rows::{
    ChangedOrder, NewOrderRow, OrderStatusChange, change_statuses, insert_lines, insert_orders, lock_orders,
};
pub use status::OrderStatus;
