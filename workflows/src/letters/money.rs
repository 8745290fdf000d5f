//! Amounts, written for people.

/// Writes an amount for people. ISO 4217 gives each currency its number of decimals; these are the ones that have
/// other than two.
pub(super) fn money(minor: i64, currency: &str) -> String {
    let decimals = match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "UYI"
        | "VND" | "VUV" | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        "CLF" | "UYW" => 4,
        _ => 2_usize,
    };
    if decimals == 0 {
        return format!("{currency} {minor}");
    }
    let unit = 10_i64.pow(u32::try_from(decimals).unwrap_or(0));
    format!("{currency} {}.{:0decimals$}", minor / unit, minor % unit)
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
        assert_eq!(money(0, "USD"), "USD 0.00");
    }
}
