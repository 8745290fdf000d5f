//! Amounts of money in mails.

use crate::support::currency::decimals;

/// What most currencies have, for old prices in a currency that has been abolished.
const DEFAULT_DECIMALS: u32 = 2;

/// Writes an amount with the decimals of its currency.
pub(crate) fn money(minor: i64, currency: &str) -> String {
    let decimals = decimals(currency).unwrap_or(DEFAULT_DECIMALS);
    if decimals == 0 {
        return format!("{currency} {minor}");
    }
    let (unit, width) = (10_i64.pow(decimals), decimals as usize);
    format!("{currency} {}.{:0width$}", minor / unit, minor % unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_has_the_decimals_of_its_currency() {
        assert_eq!(money(1290, "EUR"), "EUR 12.90");
        assert_eq!(money(5, "EUR"), "EUR 0.05");
        assert_eq!(money(1290, "JPY"), "JPY 1290");
        assert_eq!(money(1290, "KWD"), "KWD 1.290");
        assert_eq!(money(12_905, "UYW"), "UYW 1.2905");
        assert_eq!(money(0, "USD"), "USD 0.00");
        assert_eq!(money(1290, "DEM"), "DEM 12.90", "one of old");
    }
}
