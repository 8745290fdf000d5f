//! How far back claims look in an index that is ordered by time.
//!
//! A saga that ended leaves a dead entry in such an index until vacuum removes it. While another session holds a
//! snapshot, as a backup does, vacuum can remove none, and a claim that began at the oldest entry would visit all of
//! them. So a claim looks only at the time since the claim before it. It looks back a little further, because a
//! transaction may commit later than the time that it wrote. Now and then it looks back further still, so that a saga whose
//! transaction took long is found about as long after its commit. What is older than that, the sweep finds
//! (`claim/sweep.rs`).
//!
//! All times are durations of the monotonic clock here, which the statement subtracts from the database's time. So a
//! database clock that is set back does no harm.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How much further a claim looks back than to the one before, or to what that left.
const OVERLAP: Duration = Duration::from_millis(500);
/// How often a claim looks back how far at least.
const TIERS: [Tier; 2] = [
    Tier { every: Duration::from_secs(1), lookback: Duration::from_secs(4) },
    Tier { every: Duration::from_secs(8), lookback: Duration::from_secs(32) },
];
/// The lookback after a claim of everything failed, and the age from which the sweep is responsible.
pub(crate) const FAR: Duration = Duration::from_secs(32);

struct Tier {
    every: Duration,
    lookback: Duration,
}

/// The low-water mark of one queue in one index.
#[derive(Debug, Default)]
pub(crate) struct ScanWindow {
    state: Mutex<WindowState>,
}

#[derive(Debug, Default)]
struct WindowState {
    /// When the last claim began; `None` before the first, which looks at everything.
    scanned: Option<Instant>,
    /// How old the sagas were at that time that may be left.
    left: Duration,
    tiers: [Option<Instant>; TIERS.len()],
}

/// One claim's view of the window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scan {
    began: Instant,
    /// How far back the claim looks; `None` for no limit.
    lookback: Option<Duration>,
}

impl Scan {
    /// The lookback in milliseconds; for no limit, more than any saga's age.
    pub(crate) fn lookback_ms(self) -> i64 {
        const CENTURY_MS: i64 = 100 * 365 * 24 * 3_600_000;
        self.lookback.map_or(CENTURY_MS, |lookback| {
            i64::try_from(lookback.as_millis()).map_or(CENTURY_MS, |lookback| lookback.saturating_add(1))
        })
    }
}

impl ScanWindow {
    /// Begins a claim.
    pub(crate) fn begin(&self) -> Scan {
        self.begin_at(Instant::now())
    }

    fn begin_at(&self, now: Instant) -> Scan {
        let mut state = self.state.lock();
        let Some(scanned) = state.scanned else { return Scan { began: now, lookback: None } };
        let mut lookback = now.saturating_duration_since(scanned) + state.left + OVERLAP;
        for (tier, last) in TIERS.iter().zip(&mut state.tiers) {
            if last.is_none_or(|last| now.saturating_duration_since(last) >= tier.every) {
                *last = Some(now);
                lookback = lookback.max(tier.lookback);
            }
        }
        Scan { began: now, lookback: Some(lookback) }
    }

    /// Ends a claim. `left` is the age of the youngest saga that it claimed, if others that are due may be left.
    pub(crate) fn end(&self, scan: Scan, left: Option<Duration>) {
        let mut state = self.state.lock();
        state.scanned = Some(scan.began);
        state.left = left.unwrap_or_default();
    }

    /// Ends a claim that failed. If it looked at everything, that may have been too much, so the next looks back for a
    /// bounded time.
    pub(crate) fn fail(&self, scan: Scan) {
        let mut state = self.state.lock();
        if state.scanned.is_none() {
            state.scanned = Some(scan.began);
            state.left = FAR;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn a_claim_looks_back_to_the_one_before_and_now_and_then_further() {
        let (window, start) = (ScanWindow::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let scan = window.begin_at(at(0));
        assert_eq!(scan.lookback, None, "the first looks at everything");
        window.end(scan, None);
        assert_eq!(window.begin_at(at(10)).lookback, Some(secs(32)), "the tiers begin");
        let scan = window.begin_at(at(20));
        assert_eq!(scan.lookback, Some(OVERLAP + Duration::from_millis(20)));
        window.end(scan, None);
        assert_eq!(window.begin_at(at(30)).lookback, Some(OVERLAP + Duration::from_millis(10)));
        assert_eq!(window.begin_at(at(1010)).lookback, Some(secs(4)));
        assert_eq!(window.begin_at(at(1020)).lookback, Some(OVERLAP + secs(1)));
        assert_eq!(window.begin_at(at(8010)).lookback, Some(secs(32)));
    }

    #[test]
    fn what_a_full_claim_left_is_looked_at_by_the_next() {
        let (window, start) = (ScanWindow::default(), Instant::now());
        let scan = window.begin_at(start);
        window.end(scan, Some(secs(3600)));
        assert_eq!(window.begin_at(start + secs(1)).lookback, Some(secs(3601) + OVERLAP));
    }

    #[test]
    fn the_overlap_is_kept_for_sagas_that_became_due_at_once() {
        let (window, start) = (ScanWindow::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        window.end(window.begin_at(at(0)), None);
        // The tiers have had their turn.
        window.end(window.begin_at(at(10)), Some(Duration::from_millis(700)));
        // All became due with the one that was 700 ms old. This claim's statement may begin later than the one before did.
        let lookback = window.begin_at(at(40)).lookback.unwrap();
        assert!(lookback >= Duration::from_millis(730) + OVERLAP, "{lookback:?}");
    }

    #[test]
    fn a_claim_of_everything_that_fails_is_not_repeated() {
        let (window, start) = (ScanWindow::default(), Instant::now());
        let scan = window.begin_at(start);
        window.fail(scan);
        assert_eq!(window.begin_at(start + secs(1)).lookback, Some(secs(33) + OVERLAP));
        let scan = window.begin_at(start + secs(2));
        window.fail(scan);
        assert_eq!(
            window.begin_at(start + secs(2)).lookback,
            Some(secs(34) + OVERLAP),
            "a later failure moves no mark"
        );
    }
}
