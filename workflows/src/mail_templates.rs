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
mod templates;

use uuid::Uuid;

use low_stock::MAX_LISTED_PRODUCTS;
pub use low_stock::{LowProduct, LowStockAlert};
pub use mail_template::MailItem;
use mail_template::render;
pub use order_cancelled::OrderCancelled;
pub use order_confirmed::OrderConfirmed;
pub use order_rejected::{OrderRejected, ShortLine};
pub use order_shipped::OrderShipped;
pub use templates::{RenderError, TemplateDescription, render_named, templates};

use crate::{
    inventory::{LowStock, Shortage},
    orders::{ChangedOrder, Order, OrderItem},
    sagas::deliver_notification::DeliverNotification,
};

/// "Your order is confirmed."
pub(crate) fn confirmed(
    order_id: Uuid,
    to: &str,
    items: &[OrderItem],
    names: &[String],
    currency: &str,
    total: i64,
) -> DeliverNotification {
    let item = |(item, name): (&OrderItem, &String)| MailItem {
        sku: item.sku.clone(),
        name: name.clone(),
        quantity: item.quantity,
    };
    let items = items.iter().zip(names).map(item).collect();
    render(to, &OrderConfirmed { order_id, currency: currency.into(), total, items })
}

/// "Your order could not be accepted."
pub(crate) fn rejected(order: &ChangedOrder, short: &[Shortage]) -> DeliverNotification {
    let line = |Shortage { sku, requested, available }: &Shortage| ShortLine {
        sku: sku.clone(),
        requested: *requested,
        available: *available,
    };
    let mail = OrderRejected {
        order_id: order.order_id,
        currency: order.currency.clone(),
        total: order.total,
        reason: order.status_reason.clone().unwrap_or_else(|| "it could not be placed".into()),
        short: short.iter().map(line).collect(),
    };
    render(&order.customer_email, &mail)
}

/// "Your order is cancelled."
pub(crate) fn cancelled(order: &ChangedOrder) -> DeliverNotification {
    let mail = OrderCancelled {
        order_id: order.order_id,
        currency: order.currency.clone(),
        total: order.total,
        reason: order.status_reason.clone().unwrap_or_else(|| "no reason was given".into()),
    };
    render(&order.customer_email, &mail)
}

/// "Your order is on its way."
pub(crate) fn shipped(order: &Order) -> DeliverNotification {
    let items = order.items.iter().map(|line| MailItem {
        sku: line.sku.clone(),
        name: line.name.clone(),
        quantity: line.quantity,
    });
    render(&order.customer_email, &OrderShipped { order_id: order.order_id, items: items.collect() })
}

/// "There is little left of a product", or of several, to whoever runs the shop.
pub(crate) fn low_stock(to: &str, low: &[LowStock]) -> DeliverNotification {
    let product = |LowStock { sku, available, threshold }: &LowStock| LowProduct {
        sku: sku.clone(),
        available: *available,
        threshold: *threshold,
    };
    let (listed, more) = low.split_at(low.len().min(MAX_LISTED_PRODUCTS));
    let more = i64::try_from(more.len()).unwrap_or(i64::MAX);
    render(to, &LowStockAlert { products: listed.iter().map(product).collect(), more })
}
