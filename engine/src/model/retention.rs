//! How long sagas are kept after their end.

use std::{collections::BTreeMap, time::Duration};

use strum::VariantArray;

/// How a saga can end for good. A dead saga that waits for an operator has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, VariantArray)]
pub enum SagaEnd {
    /// It did what it is for.
    Completed,
    /// What it had done was undone.
    Compensated,
    /// It was given up as it was: an operator discarded it, or its dead job expired past its pivot.
    GivenUp,
}

impl SagaEnd {
    /// All of them, in the order of their declaration.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The status with which such a saga is stored; it has an end, too.
    pub(crate) fn status(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Compensated => "compensated",
            Self::GivenUp => "dead",
        }
    }
}

/// How long sagas are kept after their end, by definition and end, and how long their business keys outlive it. A dead
/// saga that waits for an operator is kept until one acts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    default: Option<Duration>,
    by_end: BTreeMap<(String, SagaEnd), Option<Duration>>,
    keys: Duration,
}

impl Retention {
    /// Keeps every saga for this time after its end; `None` for ever.
    pub fn of(keep: impl Into<Option<Duration>>) -> Self {
        Self { default: keep.into(), ..Self::default() }
    }

    /// Sets the time for the sagas of one definition with this end; `None` for ever. The definition need not be
    /// registered: sagas of one that is gone are kept for as long.
    #[must_use]
    pub fn keep(
        mut self,
        definition: impl Into<String>,
        end: SagaEnd,
        keep: impl Into<Option<Duration>>,
    ) -> Self {
        self.by_end.insert((definition.into(), end), keep.into());
        self
    }

    /// Sets how long a business key starts no other saga, counted from the end of its own. While its saga is kept, it
    /// never does. Zero by default: a key goes with its saga.
    #[must_use]
    pub fn keep_keys(mut self, keep: Duration) -> Self {
        self.keys = keep;
        self
    }

    /// How long business keys are kept after the end of their sagas.
    pub fn keys(&self) -> Duration {
        self.keys
    }

    /// The shortest and the longest time after which a saga may be deleted; `None` if none ever is.
    pub fn extent(&self) -> Option<(Duration, Duration)> {
        let times = self.times();
        Some((*times.first()?, *times.last()?))
    }

    /// The times for which sagas are kept, without those that are kept for ever, the shortest first.
    pub(crate) fn times(&self) -> Vec<Duration> {
        let mut times: Vec<_> = self.by_end.values().copied().chain([self.default]).flatten().collect();
        times.sort();
        times.dedup();
        times
    }

    /// The time for all sagas that have none of their own.
    pub(crate) fn default_time(&self) -> Option<Duration> {
        self.default
    }

    /// The sagas that have a time of their own, and it.
    pub(crate) fn exceptions(&self) -> impl Iterator<Item = (&str, SagaEnd, Option<Duration>)> {
        self.by_end.iter().map(|((definition, end), keep)| (definition.as_str(), *end, *keep))
    }
}

/// What one batch of deletions did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// How many rows were deleted.
    pub deleted: u64,
    /// Whether there may be more to delete now.
    pub more: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    #[test]
    fn each_time_is_listed_once_and_never_is_none() {
        let retention = Retention::of(30 * DAY)
            .keep("parcel", SagaEnd::Completed, DAY)
            .keep("parcel", SagaEnd::Compensated, 30 * DAY)
            .keep("parcel", SagaEnd::GivenUp, None);
        assert_eq!(retention.times(), [DAY, 30 * DAY]);
        assert_eq!(retention.extent(), Some((DAY, 30 * DAY)));
        assert_eq!(Retention::default().extent(), None);
        assert_eq!(Retention::of(None).keep("parcel", SagaEnd::Completed, DAY).times(), [DAY]);
    }
}
