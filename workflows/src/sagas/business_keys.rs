//! The business keys that the shop makes itself. The key of a saga makes sure that it starts only once, so a caller who
//! took such a key for something else would prevent the cancel of an order or a mail to a customer.

use serde_json::Value;
use uuid::Uuid;

use crate::{
    orders::{CANCEL_ORDER, PLACE_ORDER},
    returns::RETURN_ORDER,
};

/// Followed by the order's id: the mail that the order is confirmed.
pub(crate) const ORDER_CONFIRMED: &str = "order-confirmed:";
/// Followed by the order's id: the mail that the order is rejected.
pub(crate) const ORDER_REJECTED: &str = "order-rejected:";
/// Followed by the order's id: the mail that the order is cancelled.
pub(crate) const ORDER_CANCELLED: &str = "order-cancelled:";
/// Followed by the order's id: the mail that the order has been shipped.
pub(crate) const ORDER_SHIPPED: &str = "order-shipped:";
/// Followed by the order's id: the mail that reminds of its payment.
pub(crate) const PAYMENT_REMINDER: &str = "payment-reminder:";
/// Followed by the return's id: the mail that the return is approved.
pub(crate) const RETURN_APPROVED: &str = "return-approved:";
/// Followed by the return's id: the mail that the return has arrived.
pub(crate) const RETURN_RECEIVED: &str = "return-received:";
/// Followed by the return's id: the mail that the return is closed.
pub(crate) const RETURN_CLOSED: &str = "return-closed:";
/// Followed by a dedup key: a mail that a caller sends.
pub(crate) const SENT: &str = "sent:";

/// The prefixes of the keys that no caller may use.
pub const RESERVED_PREFIXES: [&str; 9] = [
    ORDER_CONFIRMED,
    ORDER_REJECTED,
    ORDER_CANCELLED,
    ORDER_SHIPPED,
    PAYMENT_REMINDER,
    RETURN_APPROVED,
    RETURN_RECEIVED,
    RETURN_CLOSED,
    SENT,
];

/// Returns why a person can't start a saga with this business key and input; `None` if it is possible.
pub fn reserved_key(definition: &str, business_key: &str, input: &Value) -> Option<String> {
    // The same for every definition, so that a JSON schema can say it.
    if let Some(taken) = RESERVED_PREFIXES.into_iter().find(|start| business_key.starts_with(start)) {
        return Some(format!("keys that begin with `{taken}` are those of the shop's own mails"));
    }
    let (id, noun) = match definition {
        name if name == PLACE_ORDER.name() || name == CANCEL_ORDER.name() => ("order_id", "order"),
        name if name == RETURN_ORDER.name() => ("return_id", "return"),
        _ => return None,
    };
    let key: Uuid = business_key.parse().ok()?;
    let meant = input.get(id).and_then(Value::as_str).and_then(|id| id.parse().ok());
    (meant != Some(key)).then(|| format!("this is the key of another {noun}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_reserved_key_is_refused_for_everything_but_its_purpose() {
        let order = "0199f39f-0000-7000-8000-00000000000a";
        let (own, foreign) = (json!({"order_id": order}), json!({"order_id": Uuid::nil()}));
        for definition in ["place-order", "cancel-order"] {
            assert_eq!(reserved_key(definition, order, &own), None);
            assert!(reserved_key(definition, order, &foreign).is_some());
            assert!(reserved_key(definition, order, &json!({})).is_some());
            assert_eq!(reserved_key(definition, "refund-7", &foreign), None);
        }
        let (own, foreign) =
            (json!({"return_id": order}), json!({"return_id": Uuid::nil(), "order_id": order}));
        assert_eq!(reserved_key("return-order", order, &own), None);
        assert!(reserved_key("return-order", order, &foreign).is_some());
        for key in ["order-confirmed:x", "order-rejected:x", "order-cancelled:x", "order-shipped:x", "sent:x"]
        {
            assert!(reserved_key("deliver-notification", key, &json!({})).is_some(), "{key}");
            assert!(reserved_key("another", key, &json!({})).is_some(), "{key}");
        }
        assert_eq!(reserved_key("deliver-notification", "news-1", &json!({})), None);
    }
}
