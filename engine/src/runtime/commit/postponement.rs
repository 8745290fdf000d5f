//! For how long a step has been put off. A snooze costs no attempt, so snoozes alone would put a saga off for ever, and no
//! operator would hear of it. The time of the first in a row is stored, and the row of them ends after the policy's limit.

use std::time::Duration;

use crate::{
    model::{
        outcome::{Counts, Failure},
        retry::RetryPolicy,
        transition::Event,
    },
    store::commits::FencedSaga,
};

/// The snoozes in a row of one saga, while a transaction advances it.
pub(super) struct Postponement {
    /// How long ago the first of them was, if the batch began with the saga put off.
    so_far: Duration,
    /// Whether the last thing that this batch decided is a snooze; `None` while it has decided nothing.
    snoozed: Option<bool>,
}

impl Postponement {
    pub(super) fn of(row: &FencedSaga) -> Self {
        Self::new(Duration::from_millis(u64::try_from(row.postponed_ms).unwrap_or_default()))
    }

    fn new(so_far: Duration) -> Self {
        Self { so_far, snoozed: None }
    }

    pub(super) fn note(&mut self, event: &Event) {
        self.snoozed = match event {
            Event::AttemptStarted | Event::Released | Event::Waiting | Event::Opened | Event::Lost => {
                self.snoozed
            }
            Event::Retry(Counts::Snooze) => Some(true),
            Event::Retry(Counts::Attempt)
            | Event::Done
            | Event::Chosen(_)
            | Event::Exhausted(_)
            | Event::Failed(_)
            | Event::Cancel { .. }
            | Event::ParentCompensates { .. }
            | Event::DeadlinePassed
            | Event::DeadLettered
            | Event::Retried
            | Event::Discarded => Some(false),
        };
    }

    /// Notes that the step has got on, though it is not done.
    pub(super) fn end(&mut self) {
        self.snoozed = Some(false);
    }

    /// Whether the step is put off now, as it is stored; `None` leaves what is stored.
    pub(super) fn stored(&self) -> Option<bool> {
        self.snoozed
    }

    /// Whether the next attempt would be one too many, or the next snooze one too late: the code of the failure, and
    /// after what the engine gives up.
    pub(super) fn exhaustion(
        &self,
        counts: Counts,
        attempt: u32,
        policy: &RetryPolicy,
    ) -> Option<(&'static str, String)> {
        match counts {
            Counts::Attempt if attempt >= policy.attempts => {
                Some((Failure::ATTEMPTS_EXHAUSTED, format!("{attempt} attempts")))
            }
            // A step that the batch has come to just now was not put off before.
            Counts::Snooze if self.snoozed.is_none() && self.so_far >= policy.max_postponed => {
                let seconds = self.so_far.as_secs();
                Some((Failure::POSTPONED_TOO_LONG, format!("{seconds} s in which it was only put off")))
            }
            Counts::Attempt | Counts::Snooze => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: RetryPolicy =
        RetryPolicy { max_postponed: Duration::from_hours(1), attempts: 3, ..RetryPolicy::CALL };

    fn code(postponement: &Postponement, counts: Counts, attempt: u32) -> Option<&'static str> {
        postponement.exhaustion(counts, attempt, &HOUR).map(|(code, _)| code)
    }

    #[test]
    fn snoozes_in_a_row_end_after_the_limit_whatever_the_attempt_is() {
        let (early, late) = (Duration::from_mins(59), Duration::from_hours(1));
        assert_eq!(code(&Postponement::new(early), Counts::Snooze, 9), None);
        assert_eq!(code(&Postponement::new(late), Counts::Snooze, 1), Some("postponed-too-long"));
        assert_eq!(code(&Postponement::new(late), Counts::Attempt, 2), None);
        assert_eq!(code(&Postponement::new(early), Counts::Attempt, 3), Some("attempts-exhausted"));
    }

    #[test]
    fn a_step_that_was_just_reached_was_not_put_off_and_an_attempt_ends_the_row() {
        let mut postponement = Postponement::new(Duration::from_hours(2));
        postponement.note(&Event::AttemptStarted);
        assert_eq!(postponement.stored(), None);
        postponement.note(&Event::Done);
        assert_eq!(postponement.stored(), Some(false));
        assert_eq!(code(&postponement, Counts::Snooze, 1), None);
        postponement.note(&Event::Retry(Counts::Snooze));
        assert_eq!(postponement.stored(), Some(true));
        postponement.note(&Event::Retry(Counts::Attempt));
        assert_eq!(postponement.stored(), Some(false));
    }
}
