//! "Your order is on its way."

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::mail_template::{MailItem, MailTemplate, mail_template};
use crate::support::validator::Validator;

/// "Your order is on its way."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderShipped {
    /// The order's id.
    pub order_id: Uuid,
    /// The shipped items; 1 to 100.
    #[schemars(length(min = 1, max = 100))]
    pub items: Vec<MailItem>,
}

impl MailTemplate for OrderShipped {
    mail_template!(OrderShipped, "order-shipped", "order-shipped.txt", "order-shipped.html");

    const DESCRIPTION: &'static str = "Tells a customer that an order has left.";

    fn subject(&self) -> String {
        format!("Your order {} is on its way", self.order_id)
    }

    fn check(&self, validator: &mut Validator) {
        MailItem::check_all(&self.items, validator);
    }

    fn example() -> Self {
        Self { order_id: Uuid::nil(), items: MailItem::example() }
    }
}
