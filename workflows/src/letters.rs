//! What the shop writes to people: subjects and texts, without any sending.

use uuid::Uuid;

use crate::{
    inventory::{LowStock, Short},
    orders::{Moved, OrderItem},
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
    let line = |(item, name): (&OrderItem, &String)| format!("  {} x {name} ({})\n", item.quantity, item.sku);
    let lines: String = items.iter().zip(names).map(line).collect();
    letter(
        to,
        format!("Your order {order_id} is confirmed"),
        format!(
            "Thank you for your order.\n\n{lines}\nTotal: {}\n\nOrder {order_id}\n",
            money(total, currency)
        ),
    )
}

/// "Your order could not be accepted."
pub(crate) fn rejected(order: &Moved, short: &[Short]) -> DeliverNotification {
    let line = |Short { sku, requested, available }: &Short| {
        format!("  {sku}: {requested} ordered, {available} available\n")
    };
    let reason: String = if short.is_empty() {
        format!("  {}\n", order.status_reason.as_deref().unwrap_or("it could not be placed"))
    } else {
        short.iter().map(line).collect()
    };
    letter(
        &order.customer_email,
        format!("Your order {} could not be accepted", order.order_id),
        format!(
            "We are sorry: we could not accept your order of {}.\n\n{reason}\nNothing was reserved and nothing is \
             charged.\n\nOrder {}\n",
            money(order.total, &order.currency),
            order.order_id
        ),
    )
}

/// "Your order is cancelled."
pub(crate) fn cancelled(order: &Moved) -> DeliverNotification {
    letter(
        &order.customer_email,
        format!("Your order {} is cancelled", order.order_id),
        format!(
            "Your order of {} was cancelled.\n\n  {}\n\nOrder {}\n",
            money(order.total, &order.currency),
            order.status_reason.as_deref().unwrap_or("no reason was given"),
            order.order_id
        ),
    )
}

/// "There is little left of a product", to whoever runs the shop.
pub(crate) fn low_stock(to: &str, low: &LowStock) -> DeliverNotification {
    let LowStock { sku, available, threshold } = low;
    letter(
        to,
        format!("Stock of {sku} is low"),
        format!("{available} of {sku} are available; the threshold is {threshold}.\n"),
    )
}

fn letter(to: &str, subject: String, text: String) -> DeliverNotification {
    DeliverNotification { to: to.into(), subject, text, html: None }
}

/// Writes an amount for people. ISO 4217 gives each currency its number of decimals; these are the ones that have
/// other than two.
fn money(minor: i64, currency: &str) -> String {
    let decimals = match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "UYI"
        | "VND" | "VUV" | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        "CLF" | "UYW" => 4,
        _ => 2_usize,
    };
    if decimals == 0 {
        return format!("{currency} {minor}");
    }
    let unit = 10_i64.pow(u32::try_from(decimals).unwrap_or(0));
    format!("{currency} {}.{:0decimals$}", minor / unit, minor % unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_has_the_decimals_of_its_currency() {
        assert_eq!(money(1290, "EUR"), "EUR 12.90");
        assert_eq!(money(5, "EUR"), "EUR 0.05");
        assert_eq!(money(1290, "JPY"), "JPY 1290");
        assert_eq!(money(1290, "KWD"), "KWD 1.290");
        assert_eq!(money(0, "USD"), "USD 0.00");
    }

    #[test]
    fn a_confirmation_lists_what_was_ordered() {
        let items = [OrderItem { sku: "TEA-1".into(), quantity: 2 }];
        let mail = confirmed(Uuid::nil(), "a@example.com", &items, &["Green tea".into()], "EUR", 2580);
        assert_eq!(mail.to, "a@example.com");
        assert!(mail.text.contains("2 x Green tea (TEA-1)\n"), "{}", mail.text);
        assert!(mail.text.contains("Total: EUR 25.80"), "{}", mail.text);
    }
}
