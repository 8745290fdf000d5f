//! Business keys that the shop makes itself. By them it starts a saga once: whoever used one up for something else would
//! keep an order from being cancelled, or a customer from being told.

use serde_json::Value;
use uuid::Uuid;

use crate::orders::{CANCEL_ORDER, PLACE_ORDER};

/// With the order's id: the mail that it is confirmed.
pub(crate) const ORDER_CONFIRMED: &str = "order-confirmed:";
/// With the order's id: the mail that it is rejected.
pub(crate) const ORDER_REJECTED: &str = "order-rejected:";
/// With the order's id: the mail that it is cancelled.
pub(crate) const ORDER_CANCELLED: &str = "order-cancelled:";
/// With the order's id: the mail that it is on its way.
pub(crate) const ORDER_SHIPPED: &str = "order-shipped:";
/// With a dedup key: a mail that somebody sends.
pub(crate) const SENT: &str = "sent:";

const OF_MAILS: [&str; 5] = [ORDER_CONFIRMED, ORDER_REJECTED, ORDER_CANCELLED, ORDER_SHIPPED, SENT];

/// Says why a saga with this input, which somebody starts by hand, can't have this business key; `None` when it can.
pub fn reserved_key(definition: &str, business_key: &str, input: &Value) -> Option<String> {
    // Whatever the definition, so that it can be said in a schema.
    if let Some(taken) = OF_MAILS.into_iter().find(|start| business_key.starts_with(start)) {
        return Some(format!("keys that begin with `{taken}` are those of the shop's own mails"));
    }
    if definition == PLACE_ORDER.name() || definition == CANCEL_ORDER.name() {
        let order: Uuid = business_key.parse().ok()?;
        let meant = input.get("order_id").and_then(Value::as_str).and_then(|id| id.parse().ok());
        return (meant != Some(order)).then(|| "this is the key of another order".into());
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_key_of_the_shops_own_is_only_for_what_it_is_of() {
        let order = "0199f39f-0000-7000-8000-00000000000a";
        let (own, foreign) = (json!({"order_id": order}), json!({"order_id": Uuid::nil()}));
        for definition in ["place-order", "cancel-order"] {
            assert_eq!(reserved_key(definition, order, &own), None);
            assert!(reserved_key(definition, order, &foreign).is_some());
            assert!(reserved_key(definition, order, &json!({})).is_some());
            assert_eq!(reserved_key(definition, "refund-7", &foreign), None);
        }
        for key in ["order-confirmed:x", "order-rejected:x", "order-cancelled:x", "order-shipped:x", "sent:x"]
        {
            assert!(reserved_key("deliver-notification", key, &json!({})).is_some(), "{key}");
            assert!(reserved_key("another", key, &json!({})).is_some(), "{key}");
        }
        assert_eq!(reserved_key("deliver-notification", "news-1", &json!({})), None);
    }
}
