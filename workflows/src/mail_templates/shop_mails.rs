//! The mails that the shop's sagas send.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    low_stock::{LowProduct, LowStockAlert, MAX_LISTED_PRODUCTS},
    mail_template::{MailItem, ReturnedItem, render},
    order_cancelled::OrderCancelled,
    order_confirmed::OrderConfirmed,
    order_rejected::{OrderRejected, ShortLine},
    order_shipped::OrderShipped,
    payment_reminder::PaymentReminder,
    return_approved::ReturnApproved,
    return_closed::ReturnClosed,
    return_received::ReturnReceived,
};
use crate::{
    inventory::{LowStock, Shortage},
    notifications::DeliverNotification,
    orders::{ChangedOrder, Order, OrderItem},
    returns::{LockedReturn, ReturnLine},
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

/// "Your order waits for its payment."
pub(crate) fn payment_reminder(
    order_id: Uuid,
    to: &str,
    currency: &str,
    total: i64,
    due_at: DateTime<Utc>,
) -> DeliverNotification {
    render(to, &PaymentReminder { order_id, currency: currency.into(), total, due_at })
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

/// "You may send your return."
pub(crate) fn return_approved(found: &LockedReturn) -> DeliverNotification {
    let items =
        found.items.iter().map(|line| ReturnedItem { sku: line.sku.clone(), quantity: line.quantity });
    let (return_id, order_id) = (found.return_id, found.order_id);
    render(&found.customer_email, &ReturnApproved { return_id, order_id, items: items.collect() })
}

/// "Your return has arrived."
pub(crate) fn return_received(found: &LockedReturn) -> DeliverNotification {
    let arrived = |line: &ReturnLine| line.received.filter(|received| *received > 0);
    let items = found
        .items
        .iter()
        .filter_map(|line| Some(ReturnedItem { sku: line.sku.clone(), quantity: arrived(line)? }));
    let (return_id, order_id) = (found.return_id, found.order_id);
    render(&found.customer_email, &ReturnReceived { return_id, order_id, items: items.collect() })
}

/// "Your return is closed."
pub(crate) fn return_closed(found: &LockedReturn, reason: &str) -> DeliverNotification {
    let (return_id, order_id) = (found.return_id, found.order_id);
    render(&found.customer_email, &ReturnClosed { return_id, order_id, reason: reason.into() })
}

/// "Stock of a product is low", or of several, to an administrator.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::bounds::{MAIL_ADDRESS, MAX_ORDER_LINES, PRODUCT_NAME, QUANTITY, SKU};

    #[test]
    fn products_that_run_low_together_share_one_mail_of_bounded_length() {
        let low = |nth| LowStock { sku: format!("TEA-{nth}"), available: nth, threshold: 5 };
        let one = low_stock("a@example.com", &[low(4)]);
        assert_eq!(one.subject, "Stock of TEA-4 is low");
        assert_eq!(one.text, "4 of TEA-4 are available; the threshold is 5.\n");
        let two = low_stock("a@example.com", &[low(4), low(3)]);
        assert_eq!(two.subject, "Stock of 2 products is low");
        assert!(two.text.ends_with("\n3 of TEA-3 are available; the threshold is 5.\n"), "{}", two.text);
        let many = low_stock("a@example.com", &(0..1000).map(low).collect::<Vec<_>>());
        assert_eq!((many.subject.as_str(), many.text.lines().count()), ("Stock of 1000 products is low", 51));
        assert!(many.text.ends_with("And 950 more.\n"), "{}", many.text);
        let html = many.html.unwrap();
        assert!(html.matches("<li>").count() == 50 && html.contains("<p>And 950 more.</p>"), "{html}");
    }

    /// The default limit of an input, and the least that can be set (`MAX_PAYLOAD_BYTES`).
    const MAX_PAYLOAD: usize = 256 * 1024;

    #[test]
    fn the_largest_order_and_its_mails_are_inputs_of_sagas() {
        // The characters that take up most bytes: of themselves, in JSON, and in HTML.
        for c in ["\u{10348}", "\"", "'", "&", "<"] {
            let (sku, name) = (c.repeat(SKU.max), c.repeat(PRODUCT_NAME.max));
            let line = OrderItem { sku: sku.clone(), quantity: QUANTITY.max };
            let items = vec![line; MAX_ORDER_LINES];
            let names = vec![name; MAX_ORDER_LINES];
            let to = "a".repeat(MAIL_ADDRESS.max);
            let mail = confirmed(Uuid::max(), &to, &items, &names, "BHD", i64::MAX);
            for (what, size) in [("items", size(&items)), ("confirmation", size(&mail))] {
                assert!(size < MAX_PAYLOAD - 4096, "{what} of {c}: {size} bytes");
            }
            let low = LowStock { sku, available: i64::MAX, threshold: i64::MAX };
            let alert = size(&low_stock(&to, &vec![low; 1000]));
            assert!(alert < MAX_PAYLOAD, "{c}: {alert} bytes");
        }
    }

    fn size<T: serde::Serialize>(value: &T) -> usize {
        serde_json::to_string(value).unwrap().len()
    }
}
