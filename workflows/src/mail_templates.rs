//! What the shop writes to people: templates in text and HTML, without any sending.
//!
//! A mail is a struct of the variables of its template; the templates stand in `workflows/templates/`, are compiled in,
//! and what they insert is escaped in HTML (askama, by the file's ending). The same letters can be sent by name.

mod low_stock;
mod mail_template;
mod money;
mod order_cancelled;
mod order_confirmed;
mod order_rejected;
mod order_shipped;
mod shop_mails;
mod templates;

pub use low_stock::{LowProduct, LowStockAlert};
pub use mail_template::MailItem;
pub use order_cancelled::OrderCancelled;
pub use order_confirmed::OrderConfirmed;
pub use order_rejected::{OrderRejected, ShortLine};
pub use order_shipped::OrderShipped;
pub(crate) use shop_mails::{cancelled, confirmed, low_stock, rejected, shipped};
pub use templates::{RenderError, TemplateDescription, render_named, templates};
