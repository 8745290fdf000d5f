//! "Your order is on its way."

use askama::Template;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::mail_template::{MailItem, MailTemplate};
use crate::support::violation::Validator;

/// "Your order is on its way."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderShipped {
    /// The order.
    pub order_id: Uuid,
    /// What is in it; 1 to 100.
    #[schemars(length(min = 1, max = 100))]
    pub items: Vec<MailItem>,
}

#[derive(Template)]
#[template(path = "order-shipped.txt")]
struct Text<'a> {
    letter: &'a OrderShipped,
}

#[derive(Template)]
#[template(path = "order-shipped.html")]
struct Html<'a> {
    letter: &'a OrderShipped,
    subject: &'a str,
}

impl MailTemplate for OrderShipped {
    const NAME: &'static str = "order-shipped";
    const DESCRIPTION: &'static str = "Tells a customer that an order has left.";

    fn subject(&self) -> String {
        format!("Your order {} is on its way", self.order_id)
    }

    fn text(&self) -> impl Template {
        Text { letter: self }
    }

    fn html<'a>(&'a self, subject: &'a str) -> impl Template + 'a {
        Html { letter: self, subject }
    }

    fn check(&self, validator: &mut Validator) {
        MailItem::check_all(&self.items, validator);
    }

    fn example() -> Self {
        Self { order_id: Uuid::nil(), items: MailItem::example() }
    }
}
