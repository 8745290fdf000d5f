//! The currencies of prices: those of ISO 4217 that have minor units.

use iso_currency::Currency;

/// Returns the number of decimals of a currency; `None` if prices can't be in it.
pub(crate) fn decimals(code: &str) -> Option<u32> {
    Currency::from_code(code)?.exponent().map(u32::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_currencies_with_minor_units_are_listed() {
        for (code, expected) in [("EUR", Some(2)), ("JPY", Some(0)), ("KWD", Some(3)), ("CLF", Some(4))] {
            assert_eq!(decimals(code), expected, "{code}");
        }
        for none in ["AAA", "XXX", "XAU", "eur", "EU", "EURO", ""] {
            assert_eq!(decimals(none), None, "{none}");
        }
    }
}
