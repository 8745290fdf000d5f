//! The bounds of the texts and numbers that callers send, each in one place: the checks, the JSON schemas of sagas and
//! the OpenAPI document use them, and a test compares the constraints of the database with them.
//!
//! They are constants rather than types such as `Line<1, 64>`: an invalid text has to be decoded, too, so that it is
//! reported with all other violations, and a type for texts that are not yet checked would guarantee nothing.

use super::{
    characters::{is_composed, is_invisible, turns_direction},
    email::{MAX_ADDRESS_BYTES, is_email},
    violation::Violation,
};

/// The characters that a text may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextKind {
    /// One line that neither begins nor ends with white space.
    Line,
    /// A line by which something is found, so two that look the same have to be the same: composed, with no white space
    /// but single characters U+0020 inside, and nothing invisible.
    Identifier,
    /// Names what is there by the same characters, whatever rules it was made under: one line.
    Reference,
    /// One line, which may be empty.
    AnyLine,
    /// One line that is not blank: an explanation.
    NonBlankLine,
    /// Many lines: no control characters but tabs and line ends.
    MultiLine,
    /// A bare mail address that the mailer accepts.
    MailAddress,
}

/// What no line has, as a part of a regular expression: control characters, and those that turn the direction of
/// writing.
macro_rules! not_in_lines {
    () => {
        r"\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069"
    };
}

/// What no identifier has besides: white space but U+0020, and what is invisible, as far as 16 bits go.
macro_rules! not_in_identifiers {
    () => {
        r"\u0000-\u001f\u007f-\u00a0\u00ad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    };
}

impl TextKind {
    /// The regular expression of the allowed texts, in the dialect of JSON Schema; `None` for mail addresses, which
    /// have a format of their own. It can't say that an identifier is composed.
    pub const fn pattern(self) -> Option<&'static str> {
        match self {
            Self::Line => Some(concat!(
                "^[^",
                not_in_lines!(),
                r"\s]([^",
                not_in_lines!(),
                "]*[^",
                not_in_lines!(),
                r"\s])?$"
            )),
            Self::Identifier => Some(concat!(
                "^[^",
                not_in_identifiers!(),
                " ]([^",
                not_in_identifiers!(),
                "]*[^",
                not_in_identifiers!(),
                " ])?$"
            )),
            Self::Reference => Some(r"^[^\u0000-\u001f\u007f-\u009f]*$"),
            Self::AnyLine => Some(concat!("^[^", not_in_lines!(), "]*$")),
            Self::NonBlankLine => Some(concat!(
                "^[^",
                not_in_lines!(),
                "]*[^",
                not_in_lines!(),
                r"\s][^",
                not_in_lines!(),
                "]*$"
            )),
            Self::MultiLine => Some(r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]*$"),
            Self::MailAddress => None,
        }
    }

    /// Why the text has a character that it may not have, as a violation's code and message.
    fn forbids(self, text: &str) -> Option<(&'static str, &'static str)> {
        let is_line = self != Self::MultiLine;
        let is_new = self != Self::Reference;
        let is_control = |c: char| c.is_control() && (is_line || !matches!(c, '\n' | '\r' | '\t'));
        if text.contains(is_control) {
            return Some(("control-character", "must not contain control characters"));
        }
        if is_line && is_new && text.contains(turns_direction) {
            return Some((
                "direction-control",
                "must not contain characters that turn the direction of writing, such as U+202E",
            ));
        }
        if self == Self::Identifier && text.contains(|c| is_invisible(c) || (c.is_whitespace() && c != ' ')) {
            return Some((
                "invisible-character",
                "must not contain invisible characters, nor white space but U+0020",
            ));
        }
        if self == Self::Identifier && !is_composed(text) {
            return Some(("not-composed", "must be in Unicode's normalization form C"));
        }
        None
    }
}

/// The bounds of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextBounds {
    /// The name by which fields in the OpenAPI document refer to these bounds, as their `format`.
    pub name: &'static str,
    /// The characters that the text may have.
    pub kind: TextKind,
    /// The fewest characters.
    pub min: usize,
    /// The most characters.
    pub max: usize,
}

impl TextBounds {
    /// Checks a text.
    pub fn violation(&self, pointer: &str, text: &str) -> Option<Violation> {
        let Self { kind, min, max, .. } = *self;
        let wrong = |code, message: &str| Some(Violation::new(pointer, code, message));
        match kind {
            TextKind::MailAddress if is_email(text) => None,
            TextKind::MailAddress => {
                wrong("not-an-email-address", "must be an e-mail address, such as a@example.com")
            }
            TextKind::NonBlankLine if text.trim().is_empty() => {
                wrong("wrong-length", &format!("say why, in {min} to {max} characters"))
            }
            TextKind::NonBlankLine => {
                Self { kind: TextKind::AnyLine, min: 0, ..*self }.violation(pointer, text)
            }
            TextKind::Line
            | TextKind::Identifier
            | TextKind::Reference
            | TextKind::AnyLine
            | TextKind::MultiLine => {
                let is_trimmed = matches!(kind, TextKind::Line | TextKind::Identifier);
                if let Some((code, message)) = kind.forbids(text) {
                    wrong(code, message)
                } else if is_trimmed && text.trim() != text {
                    wrong("surrounding-space", "must not begin or end with white space")
                } else if !(min..=max).contains(&text.chars().count()) {
                    wrong("wrong-length", &format!("must have {min} to {max} characters"))
                } else {
                    None
                }
            }
        }
    }

    /// These bounds with a maximum that is `times` as large.
    #[must_use]
    pub(crate) const fn times(self, times: usize) -> Self {
        Self { max: times * self.max, ..self }
    }
}

/// The bounds of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumberBounds {
    /// The name by which fields in the OpenAPI document refer to these bounds, as their `format`.
    pub name: &'static str,
    /// The smallest number.
    pub min: i64,
    /// The largest number.
    pub max: i64,
}

impl NumberBounds {
    /// Checks a number.
    pub(crate) fn violation(&self, pointer: &str, number: i64) -> Option<Violation> {
        let Self { min, max, .. } = *self;
        let message = || format!("must be from {min} to {max}");
        (!(min..=max).contains(&number)).then(|| Violation::new(pointer, "out-of-range", message()))
    }
}

/// The unique name of a product in the shop.
pub const SKU: TextBounds = TextBounds { name: "sku", kind: TextKind::Identifier, min: 1, max: 64 };
/// The name of a product that is ordered: products that were created under older rules stay for sale.
pub const ORDERED_SKU: TextBounds =
    TextBounds { name: "ordered-sku", kind: TextKind::Reference, min: SKU.min, max: SKU.max };
/// The name of a product that customers see.
pub const PRODUCT_NAME: TextBounds =
    TextBounds { name: "product-name", kind: TextKind::Line, min: 1, max: 200 };
/// The description of a product.
pub const DESCRIPTION: TextBounds =
    TextBounds { name: "description", kind: TextKind::MultiLine, min: 0, max: 4000 };
/// The category of a product.
pub const CATEGORY: TextBounds = TextBounds { name: "category", kind: TextKind::Line, min: 1, max: 64 };
/// An optional reason for a change.
pub const REASON: TextBounds = TextBounds { name: "reason", kind: TextKind::AnyLine, min: 0, max: 500 };
/// A required reason for a change.
pub const REQUIRED_REASON: TextBounds =
    TextBounds { name: "required-reason", kind: TextKind::NonBlankLine, min: 1, max: 500 };
/// The reason for an order's status, as the customer sees it: a person's or the saga's own.
pub(crate) const STATUS_REASON: TextBounds =
    TextBounds { name: "status-reason", kind: TextKind::AnyLine, min: 0, max: 2000 };
/// The mail address of a customer or recipient.
pub const MAIL_ADDRESS: TextBounds =
    TextBounds { name: "mail-address", kind: TextKind::MailAddress, min: 0, max: MAX_ADDRESS_BYTES };
/// The subject of a mail.
pub const SUBJECT: TextBounds = TextBounds { name: "subject", kind: TextKind::Line, min: 1, max: 200 };
/// The body of a mail as plain text.
pub const MAIL_TEXT: TextBounds =
    TextBounds { name: "mail-text", kind: TextKind::MultiLine, min: 1, max: 65_536 };
/// The body of a mail as HTML.
pub const MAIL_HTML: TextBounds =
    TextBounds { name: "mail-html", kind: TextKind::MultiLine, min: 1, max: 131_072 };
/// The key by which a mail is sent only once.
pub const DEDUP_KEY: TextBounds = TextBounds { name: "dedup-key", kind: TextKind::Line, min: 1, max: 128 };

/// The name of a payment at its payment service.
pub(crate) const PAYMENT_REFERENCE: TextBounds =
    TextBounds { name: "payment-reference", kind: TextKind::Line, min: 1, max: 200 };

/// The bounds of all texts in the OpenAPI document.
pub const TEXTS: [TextBounds; 12] = [
    SKU,
    ORDERED_SKU,
    PRODUCT_NAME,
    DESCRIPTION,
    CATEGORY,
    REASON,
    REQUIRED_REASON,
    MAIL_ADDRESS,
    SUBJECT,
    MAIL_TEXT,
    MAIL_HTML,
    DEDUP_KEY,
];

/// The most lines of an order.
pub const MAX_ORDER_LINES: usize = 100;
/// The quantity of one line of an order.
pub const QUANTITY: NumberBounds = NumberBounds { name: "quantity", min: 1, max: 1_000_000 };
/// The quantity of one product in a return: that of all lines of an order.
pub const RETURNED_QUANTITY: NumberBounds =
    NumberBounds { name: "returned-quantity", min: 1, max: 100 * QUANTITY.max };
/// The quantity of one product in a parcel.
pub const RECEIVED_QUANTITY: NumberBounds =
    NumberBounds { name: "received-quantity", min: 0, max: RETURNED_QUANTITY.max };
/// An amount of money, in minor units of its currency.
pub const AMOUNT: NumberBounds = NumberBounds { name: "amount", min: 0, max: i64::MAX };
/// The stock of a product: sums over a million such ledgers still fit.
pub const STOCK: NumberBounds = NumberBounds { name: "stock", min: 0, max: 1_000_000_000_000 };
/// The difference by which stock is adjusted.
pub const STOCK_DIFFERENCE: NumberBounds =
    NumberBounds { name: "stock-difference", min: -STOCK.max, max: STOCK.max };

/// The bounds of all numbers in the OpenAPI document.
pub const NUMBERS: [NumberBounds; 6] =
    [QUANTITY, RETURNED_QUANTITY, RECEIVED_QUANTITY, AMOUNT, STOCK, STOCK_DIFFERENCE];

#[cfg(test)]
mod tests {
    use super::*;

    fn code(bounds: TextBounds, text: &str) -> Option<String> {
        bounds.violation("/text", text).map(|violation| violation.code)
    }

    #[test]
    fn a_nul_character_never_reaches_the_database() {
        for bounds in TEXTS {
            assert!(bounds.violation("/text", "a\0b").is_some(), "{}", bounds.name);
        }
    }

    #[test]
    fn a_required_reason_is_not_blank() {
        for nothing in ["", " ", "\u{2003}\u{a0}"] {
            assert_eq!(code(REQUIRED_REASON, nothing).as_deref(), Some("wrong-length"), "{nothing:?}");
            assert_eq!(code(REASON, nothing), None, "{nothing:?}");
        }
        assert_eq!(code(REQUIRED_REASON, " count "), None);
        for wrong in ["a\0b".to_owned(), "x".repeat(501)] {
            assert!(code(REQUIRED_REASON, &wrong).is_some());
        }
    }

    #[test]
    fn lengths_are_counted_in_characters() {
        let three = TextBounds { max: 3, ..SKU };
        assert_eq!(code(three, "茶茶茶"), None);
        assert_eq!(code(three, "茶茶茶茶").as_deref(), Some("wrong-length"));
        assert_eq!(code(three, "").as_deref(), Some("wrong-length"));
    }

    #[test]
    fn only_text_of_many_lines_may_have_line_ends() {
        assert_eq!(code(DESCRIPTION, "one\r\n\ttwo"), None);
        assert_eq!(code(REASON, "one\ntwo").as_deref(), Some("control-character"));
    }

    #[test]
    fn a_line_does_not_begin_or_end_with_white_space() {
        assert_eq!(code(SKU, " A").as_deref(), Some("surrounding-space"));
        assert_eq!(code(REASON, " A"), None);
    }

    #[test]
    fn no_line_turns_the_direction_of_writing() {
        let is_new_line = |kind| !matches!(kind, TextKind::MultiLine | TextKind::Reference);
        let lines = TEXTS.into_iter().filter(|bounds| is_new_line(bounds.kind));
        for bounds in lines {
            for control in ['\u{202a}', '\u{202e}', '\u{2066}', '\u{2069}'] {
                let domain = if bounds.kind == TextKind::MailAddress { "@example.com" } else { "" };
                let text = format!("a{control}b{domain}");
                assert!(bounds.violation("/text", &text).is_some(), "{}: {control:?}", bounds.name);
            }
        }
        assert_eq!(code(PRODUCT_NAME, "tea \u{202e}EUR 0.01").as_deref(), Some("direction-control"));
        // Names need these: a mark of direction, a joiner between letters.
        for name in ["\u{200f}תה (2)", "چای\u{200c}سبز", "☕\u{fe0f}"] {
            assert_eq!(code(PRODUCT_NAME, name), None, "{name:?}");
        }
    }

    #[test]
    fn of_skus_that_look_the_same_at_most_one_is_accepted() {
        for (sku, wrong) in [
            ("TEA-1\u{feff}", "invisible-character"),
            ("\u{feff}TEA-1", "invisible-character"),
            ("TEA\u{200b}-1", "invisible-character"),
            ("TEA\u{200d}-1", "invisible-character"),
            ("TEA\u{ad}-1", "invisible-character"),
            ("TEA\u{200e}-1", "invisible-character"),
            ("TEA\u{fe0f}-1", "invisible-character"),
            ("TEA\u{e0001}-1", "invisible-character"),
            ("TEA\u{a0}1", "invisible-character"),
            ("TEA\u{2009}1", "invisible-character"),
            ("TEA\u{2800}1", "invisible-character"),
            ("TEA\u{fffb}1", "invisible-character"),
            ("TEA\u{202e}-1", "direction-control"),
            ("CAFE\u{301}-1", "not-composed"),
            // The sign of the unit, which is canonically the letter.
            ("\u{212b}-1", "not-composed"),
        ] {
            assert_eq!(code(SKU, sku).as_deref(), Some(wrong), "{sku:?}");
        }
        for sku in ["CAFÉ-1", "Å-1", "TEA 1", "茶-1", "ชาเขียว"] {
            assert_eq!(code(SKU, sku), None, "{sku:?}");
        }
    }

    /// Of the characters that the dialect can name.
    #[test]
    fn the_pattern_of_a_text_allows_the_characters_that_its_check_allows() {
        for bounds in TEXTS {
            let Some(pattern) = bounds.kind.pattern() else { continue };
            let pattern = regex::Regex::new(pattern).expect("a pattern");
            for c in '\0'..='\u{ffff}' {
                let text = format!("a{c}b");
                let code = code(bounds, &text).filter(|code| code != "not-composed");
                assert_eq!(pattern.is_match(&text), code.is_none(), "{}: {c:?} {code:?}", bounds.name);
            }
        }
    }

    #[test]
    fn an_address_needs_a_name_and_a_host() {
        for wrong in [
            "",
            "a",
            "a@",
            "@example.com",
            "a b@example.com",
            "a@example.com\r\nBcc: b@example.com",
            "\"john doe\"@example.com",
            "a@[192.0.2.1]",
        ] {
            assert_eq!(code(MAIL_ADDRESS, wrong).as_deref(), Some("not-an-email-address"), "{wrong}");
        }
        assert_eq!(code(MAIL_ADDRESS, "a+b@example.com"), None);
    }
}
