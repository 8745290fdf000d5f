//! The delays between attempts to reach Redis.

use std::time::Duration;

const FIRST_BOUND: Duration = Duration::from_millis(100);
const MAX_BOUND: Duration = Duration::from_secs(5);

/// Exponential back-off with jitter: delays are drawn from the upper half of a growing bound, so that processes that
/// lost the same Redis don't all return at once.
#[derive(Debug)]
pub(crate) struct Backoff {
    bound: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { bound: FIRST_BOUND }
    }
}

impl Backoff {
    /// The delay before the next try.
    pub(crate) fn next(&mut self) -> Duration {
        let delay = self.bound.mul_f64(rand::random_range(0.5..=1.0));
        self.bound = (self.bound * 2).min(MAX_BOUND);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_maximum_and_no_further() {
        let mut backoff = Backoff::default();
        assert!(backoff.next() <= FIRST_BOUND);
        let delays: Vec<_> = (0..20).map(|_| backoff.next()).collect();
        assert!(delays.iter().all(|delay| *delay <= MAX_BOUND));
        assert!(delays[19] >= MAX_BOUND / 2);
    }
}
