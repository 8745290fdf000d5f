//! What is wrong with a request, and where: input is checked once, at the edge, and trusted from there on.

use engine::Failure;
use serde::{Deserialize, Serialize};

use super::{currency, email::bare_address};

/// One thing that is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Where it is wrong: a JSON pointer (RFC 6901) into the request's body, such as `/items/0/quantity`.
    pub pointer: String,
    /// Kebab-case, and the same over releases, such as `out-of-range`.
    pub code: String,
    /// One sentence for people.
    pub message: String,
}

impl Violation {
    pub(crate) fn new(pointer: impl Into<String>, code: &str, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), code: code.into(), message: message.into() }
    }
}

/// What a saga's entry step found wrong with its input: it lists that in the details of its refusal.
pub(crate) fn of_refusal(failure: Failure) -> Vec<Violation> {
    let listed = failure.details.get("errors").cloned().map(serde_json::from_value);
    match listed {
        Some(Ok(violations)) => violations,
        Some(Err(_)) | None => vec![Violation::new("", &failure.code, failure.message)],
    }
}

/// The longest reason that a person can give, in characters.
const MAX_REASON_LEN: usize = 500;

/// Checks the reason that a person has to give for a change: as [`check_reason`], and it says something.
pub fn check_required_reason(pointer: &str, reason: &str) -> Option<Violation> {
    if reason.trim().is_empty() {
        return Some(Violation::new(
            pointer,
            "wrong-length",
            format!("say why, in 1 to {MAX_REASON_LEN} characters"),
        ));
    }
    check_reason(pointer, reason)
}

/// Checks the reason that a person may give for a change: up to 500 characters, none of them a control character.
pub fn check_reason(pointer: &str, reason: &str) -> Option<Violation> {
    let mut validator = Validator::default();
    validator.single_line(pointer, reason, 0, MAX_REASON_LEN);
    validator.violations.pop()
}

/// Whether it is a bare mail address that the mailer will take.
pub(crate) fn is_email(text: &str) -> bool {
    bare_address(text).is_some()
}

/// Collects all that is wrong, so that the caller hears of everything at once.
#[derive(Debug, Default)]
pub(crate) struct Validator {
    violations: Vec<Violation>,
}

impl Validator {
    pub(crate) fn add(&mut self, pointer: impl Into<String>, code: &str, message: impl Into<String>) {
        self.violations.push(Violation::new(pointer, code, message));
    }

    /// One line of text: its length in characters, and no control characters.
    pub(crate) fn single_line(&mut self, pointer: &str, text: &str, min: usize, max: usize) {
        if text.chars().any(char::is_control) {
            self.add(pointer, "control-character", "must not contain control characters");
        } else if min > 0 && text.trim() != text {
            self.add(pointer, "surrounding-space", "must not begin or end with white space");
        } else {
            self.length(pointer, text, min, max);
        }
    }

    /// Text of many lines: its length in characters, and no control characters but tabs and line ends.
    pub(crate) fn multi_line(&mut self, pointer: &str, text: &str, min: usize, max: usize) {
        let forbidden = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
        if text.chars().any(forbidden) {
            self.add(pointer, "control-character", "must not contain control characters");
        } else {
            self.length(pointer, text, min, max);
        }
    }

    pub(crate) fn range(&mut self, pointer: impl Into<String>, number: i64, min: i64, max: i64) {
        if !(min..=max).contains(&number) {
            self.add(pointer, "out-of-range", format!("must be from {min} to {max}"));
        }
    }

    /// A code of ISO 4217 that has minor units.
    pub(crate) fn currency(&mut self, pointer: &str, code: &str) {
        if currency::decimals(code).is_none() {
            self.add(
                pointer,
                "not-a-currency",
                "must be a code of ISO 4217 that has minor units, such as EUR",
            );
        }
    }

    /// A mail address that the mailer will take.
    pub(crate) fn email(&mut self, pointer: &str, email: &str) {
        if !is_email(email) {
            self.add(pointer, "not-an-email-address", "must be an e-mail address, such as a@example.com");
        }
    }

    pub(crate) fn done(self) -> Vec<Violation> {
        self.violations
    }

    fn length(&mut self, pointer: &str, text: &str, min: usize, max: usize) {
        if !(min..=max).contains(&text.chars().count()) {
            self.add(pointer, "wrong-length", format!("must have {min} to {max} characters"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(check: impl FnOnce(&mut Validator)) -> Vec<String> {
        let mut validator = Validator::default();
        check(&mut validator);
        validator.done().into_iter().map(|violation| violation.code).collect()
    }

    #[test]
    fn a_nul_character_never_reaches_the_database() {
        assert_eq!(codes(|c| c.single_line("/name", "a\0b", 1, 64)), ["control-character"]);
        assert_eq!(codes(|c| c.multi_line("/description", "a\0b", 0, 64)), ["control-character"]);
        assert!(check_reason("/reason", "a\0b").is_some());
    }

    #[test]
    fn a_reason_that_has_to_be_given_says_something() {
        for nothing in ["", " ", "\u{2003}\u{a0}"] {
            assert!(check_required_reason("/reason", nothing).is_some(), "{nothing:?}");
            assert!(check_reason("/reason", nothing).is_none(), "{nothing:?}");
        }
        assert!(check_required_reason("/reason", " count ").is_none());
        for wrong in ["a\0b".to_owned(), "x".repeat(501)] {
            assert!(check_required_reason("/reason", &wrong).is_some());
        }
    }

    #[test]
    fn lengths_are_counted_in_characters() {
        assert!(codes(|c| c.single_line("/name", "茶茶茶", 1, 3)).is_empty());
        assert_eq!(codes(|c| c.single_line("/name", "茶茶茶茶", 1, 3)), ["wrong-length"]);
        assert_eq!(codes(|c| c.single_line("/name", "", 1, 3)), ["wrong-length"]);
    }

    #[test]
    fn prose_may_have_line_ends() {
        assert!(codes(|c| c.multi_line("/description", "one\r\n\ttwo", 0, 64)).is_empty());
    }

    #[test]
    fn a_currency_is_one_that_there_is_and_that_amounts_can_be_in() {
        for wrong in ["", "eur", "EURO", "EU", "E R", "ÄÖÜ", "AAA", "XXX", "XAU"] {
            assert_eq!(codes(|c| c.currency("/currency", wrong)), ["not-a-currency"], "{wrong}");
        }
        assert!(codes(|c| c.currency("/currency", "EUR")).is_empty());
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
            assert_eq!(codes(|c| c.email("/customer_email", wrong)), ["not-an-email-address"], "{wrong}");
        }
        assert!(codes(|c| c.email("/customer_email", "a+b@example.com")).is_empty());
    }
}
