//! A mail to send.

use shop::mail::Mail;

/// A small mail to ann.
pub(crate) fn a_mail() -> Mail {
    Mail {
        to: "ann@example.com".into(),
        subject: "s".into(),
        text: "t\n".into(),
        html: None,
        message_id: "<1.send-mail@example.com>".into(),
        at: chrono::DateTime::UNIX_EPOCH,
    }
}
