//! Writes a mail as a message (RFC 5322).

use lettre::{
    Message,
    message::{Body, Mailbox, MultiPart, SinglePart, header::ContentTransferEncoding, header::ContentType},
};

use super::{Mail, MailError};

/// Writes it for a mail server: whatever is not ASCII is encoded.
pub(super) fn write(mail: &Mail, from: &Mailbox) -> Result<Message, MailError> {
    build(mail, from, |text| Body::new(text.to_owned()))
}

/// Writes it for people who read the file.
pub(super) fn write_readable(mail: &Mail, from: &Mailbox) -> Result<Message, MailError> {
    build(mail, from, |text| {
        // Eight bits take no long lines.
        Body::new_with_encoding(text.to_owned(), ContentTransferEncoding::EightBit)
            .or_else(|text| Body::new_with_encoding(text, ContentTransferEncoding::QuotedPrintable))
            .unwrap_or_else(Body::new)
    })
}

fn build(mail: &Mail, from: &Mailbox, body: impl Fn(&str) -> Body) -> Result<Message, MailError> {
    let unsendable = |source| MailError::Unsendable { source };
    let to: Mailbox =
        mail.to.parse().map_err(|error: lettre::address::AddressError| unsendable(error.into()))?;
    let head = Message::builder()
        .from(from.clone())
        .to(to)
        .subject(mail.subject.as_str())
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

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn mail() -> Mail {
        Mail {
            to: "a@example.com".into(),
            subject: "Grüner Tee".into(),
            text: "Zwölf Stück\n".into(),
            html: None,
            message_id: "<1.send-mail@sagaline>".into(),
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
        assert!(text.contains("Message-ID: <1.send-mail@sagaline>\r\n"), "{text}");
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
    fn a_wrong_address_is_no_reason_to_try_again() {
        let from = "shop@example.com".parse().unwrap();
        let error = write(&Mail { to: "nobody".into(), ..mail() }, &from).unwrap_err();
        assert!(!error.is_retryable());
    }
}
