//! A message to be delivered: the input of the saga `deliver-notification`.

use engine::SagaName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::support::{
    bounds::{MAIL_ADDRESS, MAIL_HTML, MAIL_TEXT, SUBJECT},
    validator::Validator,
    violation::Violation,
};

/// The saga's name and input. Its id is the notification's.
pub const DELIVER_NOTIFICATION: SagaName<DeliverNotification> = SagaName::new("deliver-notification");

/// The queue that deliveries stand in, so that a slow mail server holds up nothing else.
pub const QUEUE: &str = "notifications";

/// The step whose attempts are attempts to deliver.
pub const SEND_MAIL: &str = "send-mail";

/// A message to be delivered by e-mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeliverNotification {
    /// The recipient's address.
    pub to: String,
    /// One line, up to 200 characters.
    #[schemars(length(min = SUBJECT.min, max = SUBJECT.max))]
    pub subject: String,
    /// Up to 65,536 characters.
    #[schemars(length(min = MAIL_TEXT.min, max = MAIL_TEXT.max))]
    pub text: String,
    /// The same as HTML, up to 131,072 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
}

impl DeliverNotification {
    /// Lists all that is wrong with it.
    pub fn violations(&self) -> Vec<Violation> {
        self.violations_within(1)
    }

    /// As [`Self::violations`], with bodies so many times as long as callers may write them. The shop's own letters can be
    /// longer: they hold what callers wrote elsewhere, a hundred lines of it, and escaped.
    pub(crate) fn violations_within(&self, times: usize) -> Vec<Violation> {
        let mut validator = Validator::default();
        validator.text("/to", &self.to, MAIL_ADDRESS);
        validator.text("/subject", &self.subject, SUBJECT);
        validator.text("/text", &self.text, MAIL_TEXT.times(times));
        if let Some(html) = &self.html {
            validator.text("/html", html, MAIL_HTML.times(times));
        }
        validator.done()
    }
}

/// How much longer than a caller's the shop's own letters may be.
pub(crate) const OWN_MAIL_FACTOR: usize = 2;
