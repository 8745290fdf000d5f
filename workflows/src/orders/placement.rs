//! The input of the saga `place-order`.

use engine::SagaName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::item::OrderItem;
use crate::support::{
    bounds::{MAIL_ADDRESS, MAX_ORDER_LINES, ORDERED_SKU, QUANTITY},
    validator::Validator,
    violation::Violation,
};

/// The saga that places an order. Its business key is the order's id.
pub const PLACE_ORDER: SagaName<PlaceOrder> = SagaName::new("place-order");

/// An order to place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaceOrder {
    /// The order's id, a UUID of version 7; placing the same id twice places one order.
    pub order_id: Uuid,
    /// The customer who orders.
    pub customer_id: Uuid,
    /// Where mails about the order go.
    pub customer_email: String,
    /// The items: 1 to 100, all in one currency.
    pub items: Vec<OrderItem>,
    /// The person who places the order, for its timeline; the customer if it is missing. The API sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
}

impl PlaceOrder {
    /// Checks everything that needs no catalog, and returns all violations.
    pub(crate) fn violations(&self) -> Vec<Violation> {
        let Self { order_id, customer_email, items, .. } = self;
        let mut validator = Validator::default();
        if order_id.get_version_num() != 7 {
            validator.add(
                "/order_id",
                "not-a-uuid-v7",
                "must be a UUID of version 7: lists of orders are sorted by it",
            );
        }
        validator.text("/customer_email", customer_email, MAIL_ADDRESS);
        if !(1..=MAX_ORDER_LINES).contains(&items.len()) {
            validator.add("/items", "wrong-length", format!("must have 1 to {MAX_ORDER_LINES} lines"));
            return validator.done();
        }
        for (nth, item) in items.iter().enumerate() {
            validator.text(&format!("/items/{nth}/sku"), &item.sku, ORDERED_SKU);
            validator.number(&format!("/items/{nth}/quantity"), item.quantity, QUANTITY);
        }
        validator.done()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(items: Vec<OrderItem>) -> PlaceOrder {
        PlaceOrder {
            order_id: Uuid::now_v7(),
            customer_id: Uuid::nil(),
            customer_email: "a@example.com".into(),
            items,
            actor: None,
        }
    }

    fn item(quantity: i64) -> OrderItem {
        OrderItem { sku: "TEA-1".into(), quantity }
    }

    fn found(order: &PlaceOrder) -> Vec<(String, String)> {
        order.violations().into_iter().map(|violation| (violation.pointer, violation.code)).collect()
    }

    #[test]
    fn a_valid_order_has_no_violations() {
        assert_eq!(found(&order(vec![item(1), item(QUANTITY.max)])), []);
        assert_eq!(found(&order(vec![item(1); MAX_ORDER_LINES])), []);
    }

    #[test]
    fn all_violations_are_reported_at_once() {
        let mut wrong = order(vec![item(0), OrderItem { sku: "a\0".into(), quantity: QUANTITY.max + 1 }]);
        wrong.customer_email = "nobody".into();
        wrong.order_id = Uuid::nil();
        let pointers: Vec<_> = found(&wrong).into_iter().map(|(pointer, _)| pointer).collect();
        assert_eq!(
            pointers,
            ["/order_id", "/customer_email", "/items/0/quantity", "/items/1/sku", "/items/1/quantity"]
        );
    }

    #[test]
    fn an_order_has_one_to_a_hundred_lines() {
        for items in [vec![], vec![item(1); MAX_ORDER_LINES + 1]] {
            assert_eq!(found(&order(items)), [("/items".to_owned(), "wrong-length".to_owned())]);
        }
    }

    #[test]
    fn unknown_fields_are_refused() {
        let json = r#"{"order_id":"0190c9d4-0000-7000-8000-000000000000","customer_id":"0190c9d4-0000-7000-8000-000000000000",
            "customer_email":"a@example.com","items":[],"coupon":1}"#;
        assert!(serde_json::from_str::<PlaceOrder>(json).is_err());
    }
}
