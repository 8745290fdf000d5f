//! "Your return is closed."

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::mail_template::{MailTemplate, mail_template};
use crate::support::{bounds::STATUS_REASON, validator::Validator};

/// "Your return is closed."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReturnClosed {
    /// The return's id.
    pub return_id: Uuid,
    /// The order's id.
    pub order_id: Uuid,
    /// Why, in one line.
    #[schemars(length(max = STATUS_REASON.max))]
    pub reason: String,
}

impl MailTemplate for ReturnClosed {
    mail_template!(ReturnClosed, "return-closed", "return-closed.txt", "return-closed.html");

    const DESCRIPTION: &'static str =
        "Tells a customer that a return was not allowed, is too late or was called off.";

    fn subject(&self) -> String {
        format!("Your return {} is closed", self.return_id)
    }

    fn check(&self, validator: &mut Validator) {
        validator.text("/reason", &self.reason, STATUS_REASON);
    }

    fn example() -> Self {
        Self { return_id: Uuid::nil(), order_id: Uuid::nil(), reason: "it was worn".into() }
    }
}
