//! How often a one-item step says no, which decides how its next batch is run.

use std::sync::atomic::{AtomicU32, Ordering};

/// The share of items to which one side of a one-item step said no lately. It is a hint: losing an update to another
/// thread makes a batch slower, not wrong.
#[derive(Debug, Default)]
pub(crate) struct NoRate {
    /// In millionths.
    millionths: AtomicU32,
}

/// A batch has a savepoint for each item if it is expected to have this many noes. With fewer, running it at once is
/// cheaper on average, although a no makes it run twice.
const EXPECTED_NOES: f64 = 0.7;
/// The number of items that count as much as all earlier ones.
const MEMORY: f64 = 32.0;
const MILLION: f64 = 1e6;

impl NoRate {
    /// Whether a batch of this many items will probably have a no.
    pub(crate) fn expects_a_no(&self, items: usize) -> bool {
        self.share() * as_f64(items) >= EXPECTED_NOES
    }

    /// Records the answers of a batch.
    pub(crate) fn record(&self, items: usize, noes: usize) {
        if items == 0 || (noes == 0 && self.millionths.load(Ordering::Relaxed) == 0) {
            return;
        }
        let (items, noes) = (as_f64(items), as_f64(noes));
        let weight = items / (items + MEMORY);
        let share = self.share() * (1.0 - weight) + noes / items * weight;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is from 0 to a million"
        )]
        self.millionths.store((share * MILLION) as u32, Ordering::Relaxed);
    }

    fn share(&self) -> f64 {
        f64::from(self.millionths.load(Ordering::Relaxed)) / MILLION
    }
}

fn as_f64(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_says_no_often_is_remembered_and_forgotten() {
        let rate = NoRate::default();
        assert!(!rate.expects_a_no(256), "nothing is known");
        rate.record(64, 20);
        assert!(rate.expects_a_no(64));
        assert!(!rate.expects_a_no(1), "one item runs the same way in any case");
        let batches = (0..).take_while(|_| rate.expects_a_no(32)).inspect(|_| rate.record(32, 0)).count();
        assert!((1..10).contains(&batches), "{batches}");
    }

    #[test]
    fn rare_noes_do_not_matter_in_small_batches() {
        let rate = NoRate::default();
        for _ in 0..100 {
            rate.record(100, 1);
        }
        assert!(!rate.expects_a_no(32));
        assert!(rate.expects_a_no(256));
    }
}
