//! "Your order is cancelled."

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    mail_template::{MailTemplate, mail_template},
    money::money,
};
use crate::support::{
    bounds::{AMOUNT, STATUS_REASON},
    validator::Validator,
};

/// "Your order is cancelled."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderCancelled {
    /// The order's id.
    pub order_id: Uuid,
    /// The currency's ISO 4217 code.
    #[schemars(regex(pattern = "^[A-Z]{3}$"))]
    pub currency: String,
    /// The order's total, in minor units of the currency.
    #[schemars(range(min = AMOUNT.min))]
    pub total: i64,
    /// Why the order was cancelled, in one line.
    #[schemars(length(max = STATUS_REASON.max))]
    pub reason: String,
}

impl OrderCancelled {
    fn money(&self) -> String {
        money(self.total, &self.currency)
    }
}

impl MailTemplate for OrderCancelled {
    mail_template!(OrderCancelled, "order-cancelled", "order-cancelled.txt", "order-cancelled.html");

    const DESCRIPTION: &'static str = "Tells a customer that an order is cancelled.";

    fn subject(&self) -> String {
        format!("Your order {} is cancelled", self.order_id)
    }

    fn check(&self, validator: &mut Validator) {
        validator.currency("/currency", &self.currency);
        validator.number("/total", self.total, AMOUNT);
        validator.text("/reason", &self.reason, STATUS_REASON);
    }

    fn example() -> Self {
        Self { order_id: Uuid::nil(), currency: "EUR".into(), total: 2580, reason: "changed my mind".into() }
    }
}
