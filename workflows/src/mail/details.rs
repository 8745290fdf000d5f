//! The details of an attempt that did not send its mail, as JSON for programs; the saga's history stores them.
//!
//! ```json
//! {"code": "mail-refused", "smtp": {"stage": "rcpt", "code": 550, "text": "no such mailbox"}}
//! ```

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::{BREAKER_OPEN, MailError, SmtpReply, SmtpStage};

/// The details of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AttemptDetails {
    /// The [code](MailError::code) of the error.
    code: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    smtp: Option<StagedReply>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct StagedReply {
    stage: SmtpStage,
    #[serde(flatten)]
    reply: SmtpReply,
}

impl AttemptDetails {
    /// Reads the details of an attempt; `None` if none were stored, because the engine itself ended the attempt.
    pub(crate) fn read(details: &Value) -> Option<Self> {
        Self::deserialize(details).ok()
    }

    /// Whether nothing was attempted, because the breaker was open.
    pub(crate) fn was_held_back(&self) -> bool {
        self.code == BREAKER_OPEN
    }

    /// What the server replied, its code first.
    pub(crate) fn reply(&self) -> Option<String> {
        self.smtp.as_ref().map(|smtp| smtp.reply.to_string())
    }
}

impl MailError {
    /// The error as data, to be stored with the attempt.
    pub(crate) fn details(&self) -> Value {
        let smtp = self.reply().map(|(stage, reply)| StagedReply { stage, reply: reply.clone() });
        let details = AttemptDetails { code: self.code().into(), smtp };
        serde_json::to_value(details).expect("a struct of strings and numbers is JSON")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_reply_is_stored_as_data_and_read_back_unchanged() {
        // The reply ends with a code in parentheses, as the text of an error may; it must not be taken for one.
        let said = "550 no (mail-refused)";
        let rejected = || MailError::RecipientRejected {
            stage: SmtpStage::Rcpt,
            reply: SmtpReply::new(550, "no (mail-refused)"),
        };
        let probe = MailError::ProbeFailed { retry_after: Duration::ZERO, failure: Box::new(rejected()) };
        assert_eq!(
            rejected().details(),
            json!({"code": "mail-refused", "smtp": {"stage": "rcpt", "code": 550, "text": "no (mail-refused)"}})
        );
        for error in [rejected(), probe] {
            let read = AttemptDetails::read(&error.details()).unwrap();
            assert_eq!(read.reply().as_deref(), Some(said));
            assert!(!read.was_held_back());
        }
    }

    #[test]
    fn a_mail_that_the_breaker_held_back_is_recognised_by_its_code() {
        let details = MailError::BreakerOpen { retry_after: Duration::ZERO }.details();
        let read = AttemptDetails::read(&details).unwrap();
        assert!(read.was_held_back() && read.reply().is_none());
        assert_eq!(AttemptDetails::read(&json!(null)), None);
    }
}
