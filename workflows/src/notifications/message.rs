//! The message to deliver, which is the input of the saga `deliver-notification`.

use engine::SagaName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::support::{
    bounds::{MAIL_ADDRESS, MAIL_HTML, MAIL_TEXT, SUBJECT},
    validator::Validator,
    violation::Violation,
};

/// The name of the saga, with the type of its input. The saga's id is the notification's id.
pub const DELIVER_NOTIFICATION: SagaName<DeliverNotification> = SagaName::new("deliver-notification");

/// The queue of deliveries; it is separate so that a slow mail server delays nothing else.
pub const QUEUE: &str = "notifications";

/// The step whose attempts are the delivery attempts.
pub const SEND_MAIL: &str = "send-mail";

/// A message to deliver by e-mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeliverNotification {
    /// The recipient's address.
    pub to: String,
    /// The subject: one line, up to 200 characters.
    #[schemars(length(min = SUBJECT.min, max = SUBJECT.max))]
    pub subject: String,
    /// The body as text, up to 65,536 characters.
    #[schemars(length(min = MAIL_TEXT.min, max = MAIL_TEXT.max))]
    pub text: String,
    /// The body as HTML, up to 131,072 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
}

impl DeliverNotification {
    /// Checks the message, and returns all violations.
    pub fn violations(&self) -> Vec<Violation> {
        self.violations_within(1)
    }

    /// As [`Self::violations`], with bodies up to `times` as long. The shop's own mails can be longer than those of
    /// callers, because they contain up to a hundred items with texts of callers, escaped.
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

/// How many times longer the bodies of the shop's own mails may be.
pub(crate) const OWN_MAIL_FACTOR: usize = 2;
