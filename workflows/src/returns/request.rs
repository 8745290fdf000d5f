//! The input of the saga `return-order`.

use engine::SagaName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::support::{
    bounds::{MAX_ORDER_LINES, ORDERED_SKU, REASON, REQUIRED_REASON, RETURNED_QUANTITY},
    validator::Validator,
    violation::Violation,
};

/// The saga that takes back what a customer returns of an order. Its business key is the return's id.
pub const RETURN_ORDER: SagaName<ReturnOrder> = SagaName::new("return-order");

/// A request to return an order, or part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReturnOrder {
    /// The return's id, a UUID of version 7; requesting the same id twice requests one return.
    pub return_id: Uuid,
    /// The order, which was shipped.
    pub order_id: Uuid,
    /// What is returned; if nothing is listed, all that was not returned yet.
    #[serde(default)]
    pub items: Vec<ReturnItem>,
    /// The reason, for whoever decides about it.
    pub reason: String,
    /// The person who requests it, for its timeline; the customer if it is missing. The API sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
}

/// Units of one product that are returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = NewReturnItem))]
#[serde(deny_unknown_fields)]
pub struct ReturnItem {
    /// The SKU, as in the order.
    #[schemars(length(min = ORDERED_SKU.min, max = ORDERED_SKU.max))]
    #[cfg_attr(feature = "openapi", schema(format = "ordered-sku", example = "TEA-1"))]
    pub sku: String,
    /// How many, of all lines of the order with this SKU together.
    #[schemars(range(min = RETURNED_QUANTITY.min, max = RETURNED_QUANTITY.max))]
    #[cfg_attr(feature = "openapi", schema(format = "returned-quantity", example = 1))]
    pub quantity: i64,
}

impl ReturnOrder {
    /// Checks everything for which the order is not needed, and returns all violations.
    pub(crate) fn violations(&self) -> Vec<Violation> {
        let Self { return_id, order_id: _, items, reason, actor } = self;
        let mut validator = Validator::default();
        if return_id.get_version_num() != 7 {
            validator.add(
                "/return_id",
                "not-a-uuid-v7",
                "must be a UUID of version 7: lists of returns are sorted by it",
            );
        }
        validator.text("/reason", reason, REQUIRED_REASON);
        if let Some(actor) = actor {
            validator.text("/actor", actor, REASON);
        }
        if items.len() > MAX_ORDER_LINES {
            validator.add("/items", "wrong-length", format!("must have at most {MAX_ORDER_LINES} items"));
            return validator.done();
        }
        for (nth, item) in items.iter().enumerate() {
            validator.text(&format!("/items/{nth}/sku"), &item.sku, ORDERED_SKU);
            validator.number(&format!("/items/{nth}/quantity"), item.quantity, RETURNED_QUANTITY);
            if items[..nth].iter().any(|before| before.sku == item.sku) {
                let message = format!("`{}` is listed twice", item.sku);
                validator.add(format!("/items/{nth}/sku"), "listed-twice", message);
            }
        }
        validator.done()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_violations_are_reported_at_once() {
        let item = |sku: &str, quantity| ReturnItem { sku: sku.into(), quantity };
        let wrong = ReturnOrder {
            return_id: Uuid::nil(),
            order_id: Uuid::nil(),
            items: vec![item("A", 1), item("A", 0), item("a\0", 1)],
            reason: " ".into(),
            actor: None,
        };
        let pointers: Vec<_> = wrong.violations().into_iter().map(|violation| violation.pointer).collect();
        assert_eq!(pointers, ["/return_id", "/reason", "/items/1/quantity", "/items/1/sku", "/items/2/sku"]);
        let right =
            ReturnOrder { return_id: Uuid::now_v7(), items: Vec::new(), reason: "too small".into(), ..wrong };
        assert_eq!(right.violations(), []);
    }
}
