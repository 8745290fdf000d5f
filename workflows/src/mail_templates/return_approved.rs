//! "You may send your return."

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::mail_template::{MailTemplate, ReturnedItem, mail_template};
use crate::support::validator::Validator;

/// "You may send your return."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReturnApproved {
    /// The return's id.
    pub return_id: Uuid,
    /// The order's id.
    pub order_id: Uuid,
    /// The announced items; 1 to 100.
    #[schemars(length(min = 1, max = 100))]
    pub items: Vec<ReturnedItem>,
}

impl MailTemplate for ReturnApproved {
    mail_template!(ReturnApproved, "return-approved", "return-approved.txt", "return-approved.html");

    const DESCRIPTION: &'static str = "Tells a customer that a return is approved.";

    fn subject(&self) -> String {
        format!("Your return {} is approved", self.return_id)
    }

    fn check(&self, validator: &mut Validator) {
        ReturnedItem::check_all(&self.items, validator);
    }

    fn example() -> Self {
        Self { return_id: Uuid::nil(), order_id: Uuid::nil(), items: ReturnedItem::example() }
    }
}
