//! Writes a mail as an Internet message (RFC 5322).

use chrono::{DateTime, Utc};
use lettre::{
    Message,
    address::Envelope,
    message::{
        Body, Mailbox, MultiPart, SinglePart,
        header::{ContentTransferEncoding, ContentType, Header, HeaderName, HeaderValue},
    },
};

use super::{error::MailError, subject::Subject};
use crate::support::email::bare_address;

/// A mail to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// The recipient's address.
    pub to: String,
    /// The subject: one line.
    pub subject: String,
    /// The body as text.
    pub text: String,
    /// The body as HTML, if there is one.
    pub html: Option<String>,
    /// The `Message-ID` with its angle brackets. It is the same in every attempt, so that a mail that arrives twice can
    /// be recognised.
    pub message_id: String,
    /// When the mail was written, for its `Date`.
    pub at: DateTime<Utc>,
}

/// The header `Auto-Submitted` (RFC 3834): a program wrote this mail, so absence notes must not answer it.
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".into())
    }
}

/// Writes the message for a mail server: everything that is not ASCII is encoded.
pub(crate) fn write(mail: &Mail, from: &Mailbox) -> Result<Message, MailError> {
    build(mail, from, |text| Body::new(text.to_owned()))
}

/// Writes the message for people who read the file.
pub(crate) fn write_readable(mail: &Mail, from: &Mailbox) -> Result<Message, MailError> {
    build(mail, from, |text| {
        // 8bit content must have short lines.
        Body::new_with_encoding(text.to_owned(), ContentTransferEncoding::EightBit)
            .or_else(|text| Body::new_with_encoding(text, ContentTransferEncoding::QuotedPrintable))
            .unwrap_or_else(Body::new)
    })
}

fn build(mail: &Mail, from: &Mailbox, body: impl Fn(&str) -> Body) -> Result<Message, MailError> {
    let unsendable = |source: Box<dyn std::error::Error + Send + Sync>| MailError::Unsendable { source };
    let body = |text: &str| body(&with_one_kind_of_line_end(text));
    let to = bare_address(&mail.to).ok_or_else(|| unsendable("its recipient is no address".into()))?;
    // Otherwise lettre reads it from the headers, and loses the quotes of a local part.
    let envelope = Envelope::new(Some(from.email.clone()), vec![to.clone()]);
    let head = Message::builder()
        .envelope(envelope.map_err(|error| unsendable(error.into()))?)
        .from(from.clone())
        .to(Mailbox::new(None, to))
        .header(AutoSubmitted)
        .header(Subject(mail.subject.clone()))
        .date(mail.at.into())
        .message_id(Some(mail.message_id.clone()));
    let text = SinglePart::builder().header(ContentType::TEXT_PLAIN).body(body(&mail.text));
    let message = match &mail.html {
        None => head.singlepart(text),
        Some(html) => {
            let html = SinglePart::builder().header(ContentType::TEXT_HTML).body(body(html));
            head.multipart(MultiPart::alternative().singlepart(text).singlepart(html))
        }
    };
    message.map_err(|error| unsendable(error.into()))
}

/// Writes every line end as `\n`, which is sent as CRLF. A lone carriage return must not be sent (RFC 5321, 2.3.8):
/// strict servers reject it, and others take it for the end of a line, so the author of a text could end the mail
/// early.
fn with_one_kind_of_line_end(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn mail() -> Mail {
        Mail {
            to: "a@example.com".into(),
            subject: "Grüner Tee".into(),
            text: "Zwölf Stück\n".into(),
            html: None,
            message_id: "<1.send-mail@example.com>".into(),
            at: chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
        }
    }

    fn text(message: &Message) -> String {
        String::from_utf8(message.formatted()).unwrap()
    }

    #[test]
    fn the_message_id_and_the_date_are_those_of_the_mail() {
        let from = "Shop <shop@example.com>".parse().unwrap();
        let text = text(&write(&mail(), &from).unwrap());
        assert!(text.contains("Message-ID: <1.send-mail@example.com>\r\n"), "{text}");
        assert!(text.contains("Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n"), "{text}");
        assert!(text.is_ascii());
    }

    #[test]
    fn a_file_can_be_read_by_people() {
        let from = "Shop <shop@example.com>".parse().unwrap();
        let text = text(&write_readable(&mail(), &from).unwrap());
        assert!(text.contains("Zwölf Stück"), "{text}");
    }

    #[test]
    fn html_stands_beside_the_text() {
        let from = "shop@example.com".parse().unwrap();
        let both = Mail { html: Some("<p>Zwölf</p>".into()), ..mail() };
        let text = text(&write_readable(&both, &from).unwrap());
        assert!(text.contains("multipart/alternative") && text.contains("<p>Zwölf</p>"), "{text}");
    }

    #[test]
    fn no_lone_carriage_return_is_sent() {
        let from = "shop@example.com".parse().unwrap();
        let smuggled = "one\r.\rMAIL FROM:<boss@example.com>\r\ntwo\n";
        let html = Some(format!("<p>{smuggled}</p>"));
        for written in [write, write_readable] {
            let mail = Mail { text: smuggled.into(), html: html.clone(), ..mail() };
            let text = text(&written(&mail, &from).unwrap());
            assert!(!text.replace("\r\n", "").contains('\r'), "{text:?}");
            assert!(text.contains("one\r\n.\r\nMAIL FROM"), "{text:?}");
        }
    }

    #[test]
    fn a_domain_is_written_in_ascii_and_the_mail_is_marked_as_automatic() {
        let from = "shop@example.com".parse().unwrap();
        let message = write(&Mail { to: "info@bücher.de".into(), ..mail() }, &from).unwrap();
        assert_eq!(message.envelope().to(), ["info@xn--bcher-kva.de".parse().unwrap()]);
        let text = text(&message);
        assert!(text.contains("To: info@xn--bcher-kva.de\r\n"), "{text}");
        assert!(text.contains("Auto-Submitted: auto-generated\r\n"), "{text}");
    }

    #[test]
    fn an_address_with_stray_dots_is_quoted_in_envelope_and_header() {
        let from = "shop@example.com".parse().unwrap();
        let message = write(&Mail { to: "a..b@docomo.ne.jp".into(), ..mail() }, &from).unwrap();
        let to: Vec<_> = message.envelope().to().iter().map(ToString::to_string).collect();
        assert_eq!(to, ["\"a..b\"@docomo.ne.jp"]);
        let text = text(&message);
        assert!(text.contains("To: \"a..b\"@docomo.ne.jp\r\n"), "{text}");
    }

    #[test]
    fn a_malformed_address_is_not_retried() {
        let from = "shop@example.com".parse().unwrap();
        let error = write(&Mail { to: "nobody".into(), ..mail() }, &from).unwrap_err();
        assert!(!error.is_retryable());
    }
}
