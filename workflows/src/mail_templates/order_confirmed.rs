//! "Your order is confirmed."

use askama::Template;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    mail_template::{MailItem, MailTemplate},
    money::money,
};
use crate::support::violation::Validator;

/// "Your order is confirmed."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderConfirmed {
    /// The order.
    pub order_id: Uuid,
    /// ISO 4217.
    #[schemars(regex(pattern = "^[A-Z]{3}$"))]
    pub currency: String,
    /// What it costs, in minor units of the currency.
    #[schemars(range(min = 0))]
    pub total: i64,
    /// What was ordered; 1 to 100.
    #[schemars(length(min = 1, max = 100))]
    pub items: Vec<MailItem>,
}

#[derive(Template)]
#[template(path = "order-confirmed.txt")]
struct Text<'a> {
    letter: &'a OrderConfirmed,
}

#[derive(Template)]
#[template(path = "order-confirmed.html")]
struct Html<'a> {
    letter: &'a OrderConfirmed,
    subject: &'a str,
}

impl OrderConfirmed {
    fn money(&self) -> String {
        money(self.total, &self.currency)
    }
}

impl MailTemplate for OrderConfirmed {
    const NAME: &'static str = "order-confirmed";
    const DESCRIPTION: &'static str = "Tells a customer that an order is confirmed.";

    fn subject(&self) -> String {
        format!("Your order {} is confirmed", self.order_id)
    }

    fn text(&self) -> impl Template {
        Text { letter: self }
    }

    fn html<'a>(&'a self, subject: &'a str) -> impl Template + 'a {
        Html { letter: self, subject }
    }

    fn check(&self, validator: &mut Validator) {
        validator.currency("/currency", &self.currency);
        validator.range("/total", self.total, 0, i64::MAX);
        MailItem::check_all(&self.items, validator);
    }

    fn example() -> Self {
        Self { order_id: Uuid::nil(), currency: "EUR".into(), total: 2580, items: MailItem::example() }
    }
}
