//! Orders: their items, totals and statuses, and the rules for changing them.

mod cancellation;
mod item;
mod order;
mod payment;
mod placement;
mod pricing;
mod read;
mod recording;
mod status;
mod status_change;
mod write;

pub use cancellation::{CANCEL_ORDER, CancelOrder};
pub use item::OrderItem;
pub use order::{Order, OrderFilter, OrderLine, TimelineEntry};
pub(crate) use payment::PaymentTerms;
pub use payment::{PAYMENT_RECEIVED, Payment, PaymentReference};
pub use placement::{PLACE_ORDER, PlaceOrder};
pub(crate) use pricing::{PricedOrder, price};
pub use read::{get, list};
pub(crate) use read::{now, read};
pub use recording::record_confirmed;
pub use status::OrderStatus;
pub(crate) use status_change::{ChangedOrder, NewOrderRow, OrderStatusChange};
pub(crate) use write::{change_statuses, insert_lines, insert_orders, lock_orders};
