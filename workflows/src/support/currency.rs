//! The currencies of prices: those of ISO 4217 that have minor units.

use iso_currency::Currency;

/// Returns the number of decimals of a currency; `None` if prices can't be in it.
pub(crate) fn decimals(code: &str) -> Option<u32> {
    Currency::from_code(code)?.exponent().map(u32::from)
}

/// Lists the codes of all currencies that prices can be in, in alphabetical order.
pub fn currencies() -> Vec<String> {
    let letters = || (b'A'..=b'Z').map(char::from);
    let codes = letters().flat_map(|one| {
        letters().flat_map(move |two| letters().map(move |three| String::from_iter([one, two, three])))
    });
    codes.filter(|code| decimals(code).is_some()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_paid_in_minor_units_is_a_currency() {
        for (code, expected) in [("EUR", Some(2)), ("JPY", Some(0)), ("KWD", Some(3)), ("CLF", Some(4))] {
            assert_eq!(decimals(code), expected, "{code}");
        }
        for none in ["AAA", "XXX", "XAU", "eur", "EU", "EURO", ""] {
            assert_eq!(decimals(none), None, "{none}");
        }
    }

    #[test]
    fn every_currency_is_listed_once_in_order() {
        let codes = currencies();
        assert!(codes.len() > 150 && codes.iter().any(|code| code == "EUR"), "{codes:?}");
        assert!(codes.windows(2).all(|pair| pair[0] < pair[1]), "{codes:?}");
    }
}
