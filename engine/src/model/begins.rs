//! When a saga begins that is not to begin at once.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// When a saga goes on that is not to go on at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begins {
    /// At this time.
    At(DateTime<Utc>),
    /// So long after its start.
    After(Duration),
}

impl Begins {
    /// At this time. PostgreSQL knows none before 4713 BC; any that has passed is the same.
    pub(crate) fn at(time: DateTime<Utc>) -> Self {
        Self::At(time.max(DateTime::UNIX_EPOCH))
    }

    pub(crate) fn time(self) -> Option<DateTime<Utc>> {
        match self {
            Self::At(time) => Some(time),
            Self::After(_) => None,
        }
    }

    pub(crate) fn delay(self) -> Option<Duration> {
        match self {
            Self::At(_) => None,
            Self::After(delay) => Some(delay),
        }
    }

    pub(crate) fn after_ms(self) -> Option<i64> {
        Some(i64::try_from(self.delay()?.as_millis()).unwrap_or(i64::MAX))
    }
}
