//! "Your order could not be accepted."

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    mail_template::{MailTemplate, mail_template},
    money::money,
};
use crate::support::{
    bounds::{AMOUNT, MAX_ORDER_LINES, SKU, STATUS_REASON},
    validator::Validator,
};

/// "Your order could not be accepted."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderRejected {
    /// The order's id.
    pub order_id: Uuid,
    /// The currency's ISO 4217 code.
    #[schemars(regex(pattern = "^[A-Z]{3}$"))]
    pub currency: String,
    /// The order's total, in minor units of the currency.
    #[schemars(range(min = AMOUNT.min))]
    pub total: i64,
    /// Why the order was rejected, in one line; the mail contains it if no item is short.
    #[schemars(length(max = STATUS_REASON.max))]
    pub reason: String,
    /// The items that are short.
    #[serde(default)]
    #[schemars(length(max = MAX_ORDER_LINES))]
    pub short: Vec<ShortLine>,
}

/// An item of an order with too little stock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShortLine {
    /// The product's SKU.
    #[schemars(length(min = SKU.min, max = SKU.max))]
    pub sku: String,
    /// How many were ordered.
    pub requested: i64,
    /// How many were available.
    pub available: i64,
}

impl OrderRejected {
    fn money(&self) -> String {
        money(self.total, &self.currency)
    }
}

impl MailTemplate for OrderRejected {
    mail_template!(OrderRejected, "order-rejected", "order-rejected.txt", "order-rejected.html");

    const DESCRIPTION: &'static str = "Tells a customer that an order could not be accepted.";

    fn subject(&self) -> String {
        format!("Your order {} could not be accepted", self.order_id)
    }

    fn check(&self, validator: &mut Validator) {
        validator.currency("/currency", &self.currency);
        validator.number("/total", self.total, AMOUNT);
        validator.text("/reason", &self.reason, STATUS_REASON);
        if self.short.len() > MAX_ORDER_LINES {
            validator.add("/short", "wrong-length", format!("must have at most {MAX_ORDER_LINES} lines"));
        }
        for (nth, line) in self.short.iter().enumerate().take(MAX_ORDER_LINES) {
            validator.text(&format!("/short/{nth}/sku"), &line.sku, SKU);
        }
    }

    fn example() -> Self {
        Self {
            order_id: Uuid::nil(),
            currency: "EUR".into(),
            total: 2580,
            reason: "not enough stock".into(),
            short: vec![ShortLine { sku: "TEA-1".into(), requested: 5, available: 2 }],
        }
    }
}
