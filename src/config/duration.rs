//! Parses durations as people write them: `500ms`, `30s`, `15m`, `2h`, `7d`; a bare number counts seconds, where that is
//! what people expect.

use std::time::Duration;

/// Parses a duration; `None` when the text is not one.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let text = text.trim();
    let split = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let number: u64 = digits.parse().ok()?;
    let seconds = |factor: u64| number.checked_mul(factor).map(Duration::from_secs);
    match unit.trim() {
        "ms" => Some(Duration::from_millis(number)),
        "" | "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(60 * 60),
        "d" => seconds(24 * 60 * 60),
        _ => None,
    }
}

/// Parses a duration with its unit, for those of which people think in days: a key that should be valid for `90` must
/// not be one of 90 seconds.
pub(crate) fn parse_with_unit(text: &str) -> Option<Duration> {
    if text.trim().ends_with(|character: char| character.is_ascii_digit()) { None } else { parse(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_number_is_no_duration_where_a_unit_is_needed() {
        for text in ["90", " 90 ", "0"] {
            assert_eq!(parse_with_unit(text), None, "{text}");
        }
        assert_eq!(parse_with_unit("90 d"), Some(Duration::from_hours(24 * 90)));
    }

    #[test]
    fn durations_are_read_with_and_without_a_unit() {
        for (text, expected) in
            [("500ms", 500), ("30s", 30_000), ("30", 30_000), ("15 m", 900_000), ("2h", 7_200_000)]
        {
            assert_eq!(parse(text), Some(Duration::from_millis(expected)), "{text}");
        }
    }

    #[test]
    fn invalid_durations_are_refused() {
        for text in ["", "s", "-1s", "1.5s", "10 weeks", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
