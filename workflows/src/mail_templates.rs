//! The mails of the shop: renders templates as text and HTML, and sends nothing.
//!
//! A mail is a struct with the variables of its template. The templates are in `workflows/templates/` and compiled in;
//! askama escapes variables in the `.html` files. The API can render the same templates by name.

mod low_stock;
mod mail_template;
mod money;
mod order_cancelled;
mod order_confirmed;
mod order_rejected;
mod order_shipped;
mod payment_reminder;
mod return_approved;
mod return_closed;
mod return_received;
mod shop_mails;
mod templates;

pub use low_stock::{LowProduct, LowStockAlert};
pub use mail_template::{MailItem, ReturnedItem};
pub use order_cancelled::OrderCancelled;
pub use order_confirmed::OrderConfirmed;
pub use order_rejected::{OrderRejected, ShortLine};
pub use order_shipped::OrderShipped;
pub use payment_reminder::PaymentReminder;
pub use return_approved::ReturnApproved;
pub use return_closed::ReturnClosed;
pub use return_received::ReturnReceived;
pub(crate) use shop_mails::{
    cancelled, confirmed, low_stock, payment_reminder, rejected, return_approved, return_closed,
    return_received, shipped,
};
pub use templates::{RenderError, TemplateDescription, render_named, templates};
