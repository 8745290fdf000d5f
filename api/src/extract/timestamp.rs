//! Times in requests.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, de::Error};

/// A time in the format of RFC 3339: years 0000 to 9999, all of which PostgreSQL can compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timestamp(DateTime<Utc>);

impl FromStr for Timestamp {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // chrono's own `FromStr` accepts years that PostgreSQL does not have.
        let time = DateTime::parse_from_rfc3339(text)
            .map_err(|_| "must be a time of RFC 3339, such as 2026-11-22T10:00:00Z")?;
        Ok(Self(time.to_utc()))
    }
}

impl From<Timestamp> for DateTime<Utc> {
    fn from(time: Timestamp) -> Self {
        time.0
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        String::deserialize(json)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_follow_rfc_3339() {
        for right in [
            "2026-11-22T10:00:00Z",
            "2026-11-22T10:00:00.123456789+14:00",
            "0000-01-01T00:00:00Z",
            "9999-12-31T23:59:60-12:00",
        ] {
            right.parse::<Timestamp>().expect(right);
        }
        for wrong in [
            "",
            "yesterday",
            "2026-11-22",
            "2026-11-22T10:00:00",
            "-5000-01-01T00:00:00Z",
            "+10000-01-01T00:00:00Z",
            "+262142-12-31T23:59:59Z",
            "2026-11-22T10:00:00Z\n",
        ] {
            wrong.parse::<Timestamp>().expect_err(wrong);
        }
    }
}
