//! Collects everything that is wrong with a request.

use super::{
    bounds::{NumberBounds, TextBounds},
    currency,
    violation::Violation,
};

/// Collects all violations, so that the caller gets them in one response.
#[derive(Debug, Default)]
pub(crate) struct Validator {
    violations: Vec<Violation>,
}

impl Validator {
    pub(crate) fn add(&mut self, pointer: impl Into<String>, code: &str, message: impl Into<String>) {
        self.violations.push(Violation::new(pointer, code, message));
    }

    pub(crate) fn text(&mut self, pointer: &str, text: &str, bounds: TextBounds) {
        self.violations.extend(bounds.violation(pointer, text));
    }

    pub(crate) fn number(&mut self, pointer: &str, number: i64, bounds: NumberBounds) {
        self.violations.extend(bounds.violation(pointer, number));
    }

    /// Checks an ISO 4217 code of a currency with minor units.
    pub(crate) fn currency(&mut self, pointer: &str, code: &str) {
        if currency::decimals(code).is_none() {
            self.add(
                pointer,
                "not-a-currency",
                "must be a code of ISO 4217 that has minor units, such as EUR",
            );
        }
    }

    pub(crate) fn done(self) -> Vec<Violation> {
        self.violations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_currencies_with_minor_units_are_accepted() {
        let codes = |currency: &str| {
            let mut validator = Validator::default();
            validator.currency("/currency", currency);
            validator.done().into_iter().map(|violation| violation.code).collect::<Vec<_>>()
        };
        for wrong in ["", "eur", "EURO", "EU", "E R", "ÄÖÜ", "AAA", "XXX", "XAU"] {
            assert_eq!(codes(wrong), ["not-a-currency"], "{wrong}");
        }
        assert!(codes("EUR").is_empty());
    }
}
