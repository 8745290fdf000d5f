//! "Your return has arrived."

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::mail_template::{MailTemplate, ReturnedItem, mail_template};
use crate::support::validator::Validator;

/// "Your return has arrived."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReturnReceived {
    /// The return's id.
    pub return_id: Uuid,
    /// The order's id.
    pub order_id: Uuid,
    /// What was in the parcel; 1 to 100 items.
    #[schemars(length(min = 1, max = 100))]
    pub items: Vec<ReturnedItem>,
}

impl MailTemplate for ReturnReceived {
    mail_template!(ReturnReceived, "return-received", "return-received.txt", "return-received.html");

    const DESCRIPTION: &'static str = "Tells a customer that a return has arrived.";

    fn subject(&self) -> String {
        format!("Your return {} has arrived", self.return_id)
    }

    fn check(&self, validator: &mut Validator) {
        ReturnedItem::check_all(&self.items, validator);
    }

    fn example() -> Self {
        Self { return_id: Uuid::nil(), order_id: Uuid::nil(), items: ReturnedItem::example() }
    }
}
