//! Retry policies: how often a step is attempted, how long the engine waits in between, and each attempt's time-out.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::kinds::StepKind;

/// The retry policy of one side of a step: the number of attempts, the delays between them, and their time-out.
///
/// The wait before attempt `n + 1` is drawn evenly from zero to `first_delay · factor^(n-1)`, capped at `max_delay`
/// (exponential backoff with full jitter, as described in Amazon's "Exponential Backoff And Jitter", 2015).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// The upper bound of the delay after the first attempt.
    pub first_delay: Duration,
    /// The factor by which the bound grows with each further attempt.
    pub factor: f64,
    /// The limit of the bound.
    pub max_delay: Duration,
    /// The number of attempts in all; at least one.
    pub attempts: u32,
    /// How long one attempt may take before it counts as failed. A batch may use a quarter of the lease (two seconds at
    /// least). A batch that needs longer is split, down to single sagas; a single saga runs in isolation and may use
    /// the whole time-out.
    pub timeout: Duration,
    /// For how long snoozes may put the step off without an attempt in between. Then the engine gives up as after the
    /// last attempt, so that an operator hears of work that never gets its turn.
    #[serde(default = "usual_max_postponed")]
    pub max_postponed: Duration,
}

/// For graphs that were stored before policies had it.
fn usual_max_postponed() -> Duration {
    RetryPolicy::MAX_POSTPONED
}

impl RetryPolicy {
    /// The longest time-out of a transaction step. After it the server ends the transaction, or the engine the
    /// connection. With a longer time-out that would happen first, count as transient trouble, and be retried forever
    /// without using up attempts.
    pub const LONGEST_TRANSACTION: Duration = Duration::from_secs(25);

    /// The usual limit of postponements: over a weekend and a day.
    pub const MAX_POSTPONED: Duration = Duration::from_hours(72);

    /// Five attempts over some seconds, twenty seconds for each: the default of transaction steps.
    pub const TRANSACTION: Self = Self {
        first_delay: Duration::from_millis(100),
        factor: 3.0,
        max_delay: Duration::from_secs(30),
        attempts: 5,
        timeout: Duration::from_secs(20),
        max_postponed: Self::MAX_POSTPONED,
    };

    /// Eight attempts over some minutes, thirty seconds for each: the default of call steps.
    pub const CALL: Self = Self {
        first_delay: Duration::from_millis(500),
        factor: 2.5,
        max_delay: Duration::from_mins(2),
        attempts: 8,
        timeout: Duration::from_secs(30),
        max_postponed: Self::MAX_POSTPONED,
    };

    /// Ten attempts over half an hour, twenty seconds for each: the default of undos, where giving up needs an
    /// operator.
    pub const UNDO: Self = Self {
        first_delay: Duration::from_millis(200),
        factor: 3.0,
        max_delay: Duration::from_mins(10),
        attempts: 10,
        timeout: Duration::from_secs(20),
        max_postponed: Self::MAX_POSTPONED,
    };

    /// The delay after `attempt` (counted from one); `draw` is a uniform random number from zero to one.
    pub fn delay(&self, attempt: u32, draw: f64) -> Duration {
        self.bound(attempt).mul_f64(draw.clamp(0.0, 1.0))
    }

    /// The longest possible delay after `attempt`.
    pub fn bound(&self, attempt: u32) -> Duration {
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let seconds = self.first_delay.as_secs_f64() * self.factor.powi(exponent);
        Duration::try_from_secs_f64(seconds).map_or(self.max_delay, |bound| bound.min(self.max_delay))
    }

    /// Checks the policy for a step of this kind.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn check(&self, kind: StepKind) -> Result<(), String> {
        if self.attempts == 0 {
            return Err("a retry policy needs at least one attempt".into());
        }
        if !self.factor.is_finite() || self.factor < 1.0 {
            return Err(format!("a retry policy's factor is at least 1, not {}", self.factor));
        }
        if self.timeout.is_zero() {
            return Err("a retry policy's time-out is above zero".into());
        }
        let runs_in_transaction = kind == StepKind::Transaction || kind.has_children();
        if runs_in_transaction && self.timeout > Self::LONGEST_TRANSACTION {
            let (longest, timeout) = (Self::LONGEST_TRANSACTION.as_millis(), self.timeout.as_millis());
            let whose = if kind.has_children() { "a step with children's" } else { "a transaction step's" };
            return Err(format!("{whose} time-out is at most {longest} ms, not {timeout}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_wait_never_exceeds_the_cap_and_its_bound_never_falls(attempt in 1u32..200, draw in 0.0f64..=1.0) {
            let policy = RetryPolicy::CALL;
            prop_assert!(policy.delay(attempt, draw) <= policy.max_delay);
            prop_assert!(policy.bound(attempt) <= policy.bound(attempt + 1));
        }
    }

    #[test]
    fn the_wait_is_drawn_evenly_from_zero_to_a_bound_that_grows_by_the_factor() {
        let policy = RetryPolicy {
            first_delay: Duration::from_millis(100),
            factor: 2.0,
            max_delay: Duration::from_secs(1),
            ..RetryPolicy::CALL
        };
        let drawn = |attempt, draw| policy.delay(attempt, draw).as_millis();
        assert_eq!([1, 2, 3, 4, 5, 6].map(|attempt| drawn(attempt, 1.0)), [100, 200, 400, 800, 1000, 1000]);
        assert_eq!([0.0, 0.25, 0.5, 0.75].map(|draw| drawn(3, draw)), [0, 100, 200, 300]);
    }

    #[test]
    fn a_policy_without_attempts_is_refused() {
        assert!(RetryPolicy { attempts: 0, ..RetryPolicy::CALL }.check(StepKind::Call).is_err());
    }

    #[test]
    fn a_transaction_step_may_not_take_longer_than_its_transaction() {
        let long = RetryPolicy { timeout: Duration::from_secs(26), ..RetryPolicy::TRANSACTION };
        assert!(long.check(StepKind::Call).is_ok());
        let refused = long.check(StepKind::Transaction).unwrap_err();
        assert!(refused.contains("at most 25000 ms, not 26000"), "{refused}");
        for usual in [RetryPolicy::TRANSACTION, RetryPolicy::UNDO] {
            assert!(usual.check(StepKind::Transaction).is_ok());
        }
    }
}
