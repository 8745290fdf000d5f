//! "Your order is confirmed."

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    mail_template::{MailItem, MailTemplate, mail_template},
    money::money,
};
use crate::support::{
    bounds::{AMOUNT, MAX_ORDER_LINES},
    validator::Validator,
};

/// "Your order is confirmed."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderConfirmed {
    /// The order's id.
    pub order_id: Uuid,
    /// The currency's ISO 4217 code.
    #[schemars(regex(pattern = "^[A-Z]{3}$"))]
    pub currency: String,
    /// The order's total, in minor units of the currency.
    #[schemars(range(min = AMOUNT.min))]
    pub total: i64,
    /// The ordered items; 1 to 100.
    #[schemars(length(min = 1, max = MAX_ORDER_LINES))]
    pub items: Vec<MailItem>,
}

impl OrderConfirmed {
    fn money(&self) -> String {
        money(self.total, &self.currency)
    }
}

impl MailTemplate for OrderConfirmed {
    mail_template!(OrderConfirmed, "order-confirmed", "order-confirmed.txt", "order-confirmed.html");

    const DESCRIPTION: &'static str = "Tells a customer that an order is confirmed.";

    fn subject(&self) -> String {
        format!("Your order {} is confirmed", self.order_id)
    }

    fn check(&self, validator: &mut Validator) {
        validator.currency("/currency", &self.currency);
        validator.number("/total", self.total, AMOUNT);
        MailItem::check_all(&self.items, validator);
    }

    fn example() -> Self {
        Self { order_id: Uuid::nil(), currency: "EUR".into(), total: 2580, items: MailItem::example() }
    }
}
