//! The header `Subject`.

use std::fmt::Write as _;

use lettre::message::header::{Header, HeaderName, HeaderValue};

/// A subject that arrives as it was written. lettre encodes what is not ASCII. But what looks like an encoded word
/// (`=?utf-8?B?…?=`, RFC 2047) is ASCII, and would arrive decoded, so a subject that has one is encoded here.
#[derive(Clone)]
pub(super) struct Subject(pub(super) String);

/// The most characters of an encoded word between its delimiters. A word may have 75, and the first one shares its line
/// with the header's name.
const MAX_WORD_LEN: usize = 52;

impl Header for Subject {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Subject")
    }

    fn parse(text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self(text.into()))
    }

    fn display(&self) -> HeaderValue {
        let text = self.0.clone();
        if text.contains("=?") {
            let encoded = encoded(&text);
            HeaderValue::dangerous_new_pre_encoded(Self::name(), text, encoded)
        } else {
            HeaderValue::new(Self::name(), text)
        }
    }
}

/// Encodes all of the text as words of RFC 2047 in the encoding `Q`; only ASCII letters and digits stay as they are, so
/// nothing in it can end the header.
fn encoded(text: &str) -> String {
    let mut words = vec![String::new()];
    for c in text.chars() {
        let mut piece = String::new();
        for byte in c.encode_utf8(&mut [0; 4]).bytes() {
            match byte {
                b' ' => piece.push('_'),
                _ if byte.is_ascii_alphanumeric() => piece.push(char::from(byte)),
                _ => write!(piece, "={byte:02X}").expect("writing to a string can't fail"),
            }
        }
        // A character is not divided between words.
        match words.last_mut() {
            Some(word) if word.len() + piece.len() <= MAX_WORD_LEN => word.push_str(&piece),
            _ => words.push(piece),
        }
    }
    words.iter().map(|word| format!("=?utf-8?Q?{word}?=")).collect::<Vec<_>>().join("\r\n ")
}

#[cfg(test)]
mod tests {
    use lettre::Message;

    use super::*;

    /// The header as it is sent.
    fn sent(subject: &str) -> String {
        let message = Message::builder()
            .from("shop@example.com".parse().unwrap())
            .to("ann@example.com".parse().unwrap())
            .header(Subject(subject.into()))
            .body(String::new());
        let text = String::from_utf8(message.unwrap().formatted()).unwrap();
        let rest = text.split_once("Subject: ").unwrap().1;
        rest.split_once("\r\nContent").unwrap().0.to_owned()
    }

    #[test]
    fn what_looks_like_an_encoded_word_arrives_as_it_was_typed() {
        assert_eq!(sent("=?utf-8?B?SGk=?="), "=?utf-8?Q?=3D=3Futf=2D8=3FB=3FSGk=3D=3F=3D?=");
        assert_eq!(sent("a =?b \u{fc}"), "=?utf-8?Q?a_=3D=3Fb_=C3=BC?=");
        for long in ["=?".repeat(100), format!("=?{}", "\u{8336}".repeat(198))] {
            let sent = sent(&long);
            assert!(sent.lines().all(|line| line.len() <= 76), "{sent}");
            let payloads: Vec<_> = sent
                .split("\r\n ")
                .map(|word| word.strip_prefix("=?utf-8?Q?").unwrap().strip_suffix("?=").unwrap())
                .collect();
            let bytes: Vec<u8> = payloads
                .concat()
                .split('=')
                .filter(|hex| !hex.is_empty())
                .map(|hex| u8::from_str_radix(hex, 16).unwrap())
                .collect();
            assert_eq!(String::from_utf8(bytes).unwrap(), long);
        }
    }

    #[test]
    fn other_subjects_are_left_to_lettre() {
        assert_eq!(sent("Your order is confirmed"), "Your order is confirmed");
        assert_eq!(sent("50 % = half? Yes"), "50 % = half? Yes");
        assert!(sent("Gr\u{fc}ner Tee").starts_with("=?utf-8?"));
    }
}
