//! "Your order waits for its payment."

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    mail_template::{MailTemplate, mail_template},
    money::money,
};
use crate::support::{bounds::AMOUNT, validator::Validator};

/// "Your order waits for its payment."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PaymentReminder {
    /// The order's id.
    pub order_id: Uuid,
    /// The currency's ISO 4217 code.
    #[schemars(regex(pattern = "^[A-Z]{3}$"))]
    pub currency: String,
    /// The order's total, in minor units of the currency.
    #[schemars(range(min = AMOUNT.min))]
    pub total: i64,
    /// Until when the payment has to arrive.
    pub due_at: DateTime<Utc>,
}

impl PaymentReminder {
    fn money(&self) -> String {
        money(self.total, &self.currency)
    }

    fn until(&self) -> String {
        self.due_at.format("%Y-%m-%d %H:%M UTC").to_string()
    }
}

impl MailTemplate for PaymentReminder {
    mail_template!(PaymentReminder, "payment-reminder", "payment-reminder.txt", "payment-reminder.html");

    const DESCRIPTION: &'static str = "Reminds a customer of the payment of an order.";

    fn subject(&self) -> String {
        format!("Your order {} waits for its payment", self.order_id)
    }

    fn check(&self, validator: &mut Validator) {
        validator.currency("/currency", &self.currency);
        validator.number("/total", self.total, AMOUNT);
    }

    fn example() -> Self {
        Self { order_id: Uuid::nil(), currency: "EUR".into(), total: 2580, due_at: DateTime::UNIX_EPOCH }
    }
}
