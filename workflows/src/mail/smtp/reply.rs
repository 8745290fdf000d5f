//! Replies of a mail server (RFC 5321, section 4.2). A reply is bytes: three digits that decide, and a text for people,
//! in whatever encoding the server uses, or none at all.

use crate::mail::error::SmtpReply;

/// A whole reply: its code, and the texts of its lines, in which bytes that are not UTF-8 are replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) code: u16,
    pub(super) lines: Vec<String>,
}

impl Reply {
    /// The reply as it is stored and shown. Servers repeat an enhanced status code in every line; it is shown once.
    pub(super) fn shown(&self) -> SmtpReply {
        let mut lines = self.lines.iter().map(String::as_str);
        let mut text = lines.next().unwrap_or_default().to_owned();
        let status = text.split(' ').next().filter(|word| is_enhanced_status(word)).map(str::to_owned);
        for line in lines {
            let repeated = status.as_deref().and_then(|status| line.strip_prefix(status)?.strip_prefix(' '));
            text.push(' ');
            text.push_str(repeated.unwrap_or(line).trim_start());
        }
        SmtpReply::new(self.code, &text)
    }
}

/// Whether a word is an enhanced status code such as `4.3.2` (RFC 3463).
fn is_enhanced_status(word: &str) -> bool {
    let mut parts = word.split('.');
    let is_number =
        |part: &str| (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    matches!(parts.next(), Some("2" | "4" | "5"))
        && parts.next().is_some_and(is_number)
        && parts.next().is_some_and(is_number)
        && parts.next().is_none()
}

/// One line of a reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ReplyLine {
    pub(super) code: u16,
    pub(super) is_last: bool,
    pub(super) text: String,
}

impl ReplyLine {
    /// Reads a line with its end; `None` if it does not begin with a code. The last line of a reply may be the code
    /// alone.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let line = line.trim_ascii_end();
        let (digits, rest) = line.split_at_checked(3)?;
        let code = match digits {
            [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9'] => {
                digits.iter().fold(0, |code, digit| 10 * code + u16::from(digit - b'0'))
            }
            _ => return None,
        };
        let (is_last, text) = match rest {
            [] => (true, rest),
            [b' ' | b'\t', text @ ..] => (true, text),
            [b'-', text @ ..] => (false, text),
            _ => return None,
        };
        Some(Self { code, is_last, text: String::from_utf8_lossy(text).into_owned() })
    }
}

/// What counts as an answer to a command. Any other positive reply belongs to something else: above all 221, with which
/// a server says that it closes the connection, and which may have been waiting there since the last mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expects {
    /// A completion. Clients go by the first digit if they don't know a code (RFC 5321, section 4.2).
    Completion,
    /// A completion, or 334 with a challenge (RFC 4954).
    LogIn,
    /// 354: send the content.
    GoAhead,
}

impl Expects {
    pub(super) fn takes(self, code: u16) -> bool {
        let is_completion = (200..300).contains(&code) && code != 221;
        match self {
            Self::Completion => is_completion,
            Self::LogIn => is_completion || code == 334,
            Self::GoAhead => code == 354,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_read_whatever_the_text_is_encoded_in() {
        for (bytes, code, is_last, text) in [
            (&b"250 OK\r\n"[..], 250, true, "OK"),
            (b"250-mail.example.com\r\n", 250, false, "mail.example.com"),
            (b"250\r\n", 250, true, ""),
            (b"250 \r\n", 250, true, ""),
            (b"250-\r\n", 250, false, ""),
            (b"250 OK\n", 250, true, "OK"),
            ("550 Empfänger unbekannt\r\n".as_bytes(), 550, true, "Empfänger unbekannt"),
            // Latin-1 and GBK.
            (b"250 n\xba 12\r\n", 250, true, "n\u{fffd} 12"),
            (b"550 \xb2\xbb\xb4\xe6\r\n", 550, true, "\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
        ] {
            let text = text.to_owned();
            assert_eq!(ReplyLine::parse(bytes), Some(ReplyLine { code, is_last, text }), "{bytes:?}");
        }
    }

    #[test]
    fn what_does_not_begin_with_a_code_is_no_reply() {
        for bytes in
            [&b""[..], b"\r\n", b"25\r\n", b"2500 OK\r\n", b"150 x\r\n", b"650 x\r\n", b"HTTP/1.1 400\r\n"]
        {
            assert_eq!(ReplyLine::parse(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn a_reply_is_shown_in_one_line_with_its_enhanced_status_once() {
        let shown = |lines: &[&str]| {
            Reply { code: 550, lines: lines.iter().map(ToString::to_string).collect() }.shown().to_string()
        };
        assert_eq!(shown(&["5.7.25 no PTR", "5.7.25 record"]), "550 5.7.25 no PTR record");
        assert_eq!(shown(&["5.7.2 one", "5.7.25 two"]), "550 5.7.2 one 5.7.25 two");
        assert_eq!(shown(&["one", " two"]), "550 one two");
        assert_eq!(shown(&[""]), "550 ");
    }

    #[test]
    fn a_goodbye_answers_no_command() {
        for expects in [Expects::Completion, Expects::LogIn, Expects::GoAhead] {
            assert!([221, 421, 550].iter().all(|code| !expects.takes(*code)), "{expects:?}");
        }
        assert!(Expects::Completion.takes(250) && !Expects::Completion.takes(354));
        assert!(Expects::LogIn.takes(235) && Expects::LogIn.takes(334));
        assert!(Expects::GoAhead.takes(354) && !Expects::GoAhead.takes(250));
    }
}
