//! Rates: a number of calls in a unit of time.

use std::{fmt, num::NonZeroU32, str::FromStr, time::Duration};

/// A number of calls in a unit of time. All of them may come at once; after that, each share of the time allows one
/// more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    calls: NonZeroU32,
    unit: Unit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Second,
    Minute,
    Hour,
}

/// The largest number of calls in any unit.
const MAX_CALLS: u32 = 1_000_000;

impl Rate {
    /// The number of calls.
    pub fn calls(self) -> NonZeroU32 {
        self.calls
    }

    /// The unit of time.
    pub fn period(self) -> Duration {
        Duration::from_secs(match self.unit {
            Unit::Second => 1,
            Unit::Minute => 60,
            Unit::Hour => 60 * 60,
        })
    }

    /// The time after which one more call is allowed.
    pub fn interval(self) -> Duration {
        (self.period() / self.calls.get()).max(Duration::from_nanos(1))
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no rate such as 600/m");
        let (calls, unit) = text.split_once('/').ok_or_else(wrong)?;
        let unit = match unit.trim() {
            "s" => Unit::Second,
            "m" => Unit::Minute,
            "h" => Unit::Hour,
            _ => return Err(wrong()),
        };
        let calls: NonZeroU32 = calls.trim().parse().map_err(|_| wrong())?;
        if calls.get() > MAX_CALLS {
            return Err(wrong());
        }
        Ok(Self { calls, unit })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            Unit::Second => "a second",
            Unit::Minute => "a minute",
            Unit::Hour => "an hour",
        };
        write!(f, "{} requests {unit}", self.calls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read() {
        let rate: Rate = "600/m".parse().expect("a rate");
        assert_eq!((rate.calls().get(), rate.period()), (600, Duration::from_mins(1)));
        assert_eq!(rate.interval(), Duration::from_millis(100));
        assert_eq!(rate.to_string(), "600 requests a minute");
    }

    #[test]
    fn malformed_rates_are_refused() {
        for wrong in ["", "600", "600/d", "0/m", "-1/m", "1.5/m", "/m", "600/", "1000001/s", "6/m/s"] {
            wrong.parse::<Rate>().expect_err(wrong);
        }
    }
}
