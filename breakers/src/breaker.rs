//! One dependency's circuit breaker.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use crate::{
    BreakerSettings, BreakerState, BreakerView, Dependency, Permission,
    machine::{Admission, CallResult, Machine},
};

/// Stands before a dependency. Cheap to clone; all clones are the same breaker.
#[derive(Clone)]
pub struct Breaker {
    inner: Arc<Inner>,
}

struct Inner {
    dependency: Dependency,
    settings: BreakerSettings,
    machine: Mutex<Machine>,
    /// Told of every change of the state.
    changed: Arc<Notify>,
}

/// The breaker holds calls back: nothing was attempted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{dependency}` has failed too often; nothing is tried before its next probe")]
pub struct BreakerOpen {
    /// What was to be called.
    pub dependency: Dependency,
    /// When the next probe is due, or the one under way may be over.
    pub retry_after: Duration,
    /// How long the breaker stays open each time.
    pub open_duration: Duration,
}

impl BreakerOpen {
    /// After how long to ask again: spread over a quarter of the time that the breaker stays open, so that not all who
    /// were held back come in the moment of the probe.
    pub fn retry_delay(&self) -> Duration {
        self.retry_after + (self.open_duration / 4).mul_f64(rand::random())
    }
}

impl Breaker {
    /// A closed breaker on its own; one that is seen in the API comes from [`crate::Breakers::of`].
    pub fn new(dependency: Dependency, settings: BreakerSettings) -> Self {
        Self::with_notify(dependency, settings, Arc::default())
    }

    pub(crate) fn with_notify(
        dependency: Dependency,
        settings: BreakerSettings,
        changed: Arc<Notify>,
    ) -> Self {
        let machine = Mutex::new(Machine::new(dependency, settings));
        Self { inner: Arc::new(Inner { dependency, settings, machine, changed }) }
    }

    /// Lets a call through, which is recorded by the [`CallPermit`].
    ///
    /// # Errors
    /// When the breaker is open, or half open with a call under way: nothing is to be attempted, and to be counted as an
    /// attempt, before [`BreakerOpen::retry_delay`] is over.
    pub fn try_acquire(&self) -> Result<CallPermit, BreakerOpen> {
        let admitted = self.locked(Machine::try_acquire);
        admitted.map(|admission| CallPermit { breaker: self.clone(), admission, recorded: false }).map_err(
            |retry_after| BreakerOpen {
                dependency: self.inner.dependency,
                retry_after,
                open_duration: self.inner.settings.open_duration,
            },
        )
    }

    /// What those are told who are held back now.
    pub fn open_error(&self) -> BreakerOpen {
        let (view, open_duration) = (self.view(), self.inner.settings.open_duration);
        let retry_after = view.next_probe_in.unwrap_or_default();
        BreakerOpen { dependency: self.inner.dependency, retry_after, open_duration }
    }

    /// What the next call may expect, without making it.
    pub fn permission(&self) -> Permission {
        self.lock().permission()
    }

    /// What happens to the next call.
    pub fn state(&self) -> BreakerState {
        self.lock().state()
    }

    /// The breaker at this moment.
    pub fn view(&self) -> BreakerView {
        self.lock().view()
    }

    /// For the one breaker of a dependency that a process has: others that are made on their own, and perhaps thrown away,
    /// must not show a state of theirs in its place.
    pub(crate) fn with_metrics(self) -> Self {
        self.lock().publish();
        self
    }

    fn record(&self, admission: Admission, result: CallResult) {
        self.locked(|machine| machine.record(admission, result));
    }

    fn locked<T>(&self, change: impl FnOnce(&mut Machine) -> T) -> T {
        let mut machine = self.lock();
        let before = machine.state();
        let result = change(&mut machine);
        let changed = machine.state() != before;
        drop(machine);
        if changed {
            self.inner.changed.notify_one();
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Machine> {
        // No code that holds it can leave it half changed.
        self.inner.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Breaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Breaker").field(&self.view()).finish()
    }
}

/// The leave to make one call; dropped unsettled, as by a time-out around it, it counts as a failure.
#[must_use = "say how the call ended"]
#[derive(Debug)]
pub struct CallPermit {
    breaker: Breaker,
    admission: Admission,
    recorded: bool,
}

impl CallPermit {
    /// Whether the call is to find out if the dependency works again. That it does not is no fault of the work that was
    /// chosen to try, so that is not to be counted as one of its attempts.
    pub fn is_probe(&self) -> bool {
        match self.admission {
            Admission::Probe => true,
            Admission::Normal => false,
        }
    }

    /// The dependency is well. An answer that refuses this one call is a success in that sense.
    pub fn succeeded(mut self) {
        self.recorded = true;
        self.breaker.record(self.admission, CallResult::Succeeded);
    }

    /// The dependency is away, slow or busy.
    pub fn failed(mut self) {
        self.recorded = true;
        self.breaker.record(self.admission, CallResult::Failed);
    }
}

impl Drop for CallPermit {
    fn drop(&mut self) {
        if !self.recorded {
            self.breaker.record(self.admission, CallResult::Failed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker(settings: BreakerSettings) -> Breaker {
        Breaker::new(Dependency::Smtp, settings)
    }

    fn opened(open_duration: Duration, successes_to_close: u32) -> Breaker {
        let breaker = breaker(BreakerSettings { failures: 2, open_duration, successes_to_close });
        breaker.try_acquire().unwrap().failed();
        assert_eq!(breaker.state(), BreakerState::Closed);
        breaker.try_acquire().unwrap().failed();
        assert_eq!(breaker.state(), BreakerState::Open);
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_it_says_when_to_ask_again() {
        let open_duration = Duration::from_hours(1);
        let breaker = opened(open_duration, 1);
        let open = breaker.try_acquire().unwrap_err();
        assert!(open.retry_after <= open_duration && open.retry_after > open_duration / 2, "{open:?}");
        let view = breaker.view();
        assert_eq!((view.failures, view.state), (2, BreakerState::Open));
        assert!(view.opened_ago.is_some() && view.next_probe_in.is_some(), "{view:?}");
    }

    #[test]
    fn those_held_back_are_spread_over_a_quarter_of_the_open_time() {
        let open_duration = Duration::from_secs(80);
        let open =
            BreakerOpen { dependency: Dependency::Smtp, retry_after: Duration::from_secs(8), open_duration };
        let waits: Vec<_> = (0..200).map(|_| open.retry_delay()).collect();
        assert!(waits.iter().all(|wait| (Duration::from_secs(8)..=Duration::from_secs(28)).contains(wait)));
        let tenths: std::collections::BTreeSet<_> = waits.iter().map(|wait| wait.as_secs() / 2).collect();
        assert!(tenths.len() > 5, "not spread: {waits:?}");
    }

    #[test]
    fn a_success_in_between_starts_the_count_anew() {
        let open_duration = Duration::from_hours(1);
        let breaker = breaker(BreakerSettings { failures: 2, open_duration, successes_to_close: 1 });
        for _ in 0..3 {
            breaker.try_acquire().unwrap().failed();
            breaker.try_acquire().unwrap().succeeded();
        }
        assert_eq!((breaker.state(), breaker.view().failures), (BreakerState::Closed, 0));
    }

    #[test]
    fn half_open_one_call_at_a_time_is_let_through() {
        let breaker = opened(Duration::ZERO, 1);
        let probe = breaker.try_acquire().unwrap();
        assert!(probe.is_probe());
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        assert!(breaker.try_acquire().is_err());
        assert!(breaker.try_acquire().is_err());
        probe.succeeded();
        assert_eq!(breaker.state(), BreakerState::Closed);
        assert_eq!(breaker.view().opened_ago, None);
        let (one, _other) = (breaker.try_acquire().unwrap(), breaker.try_acquire().unwrap());
        assert!(!one.is_probe());
    }

    #[test]
    fn what_the_next_call_may_expect_is_told_without_making_it() {
        let breaker =
            breaker(BreakerSettings { failures: 1, open_duration: Duration::ZERO, successes_to_close: 2 });
        assert_eq!(breaker.permission(), Permission::Allowed);
        breaker.try_acquire().unwrap().failed();
        assert_eq!((breaker.permission(), breaker.state()), (Permission::Probe, BreakerState::Open));
        let probe = breaker.try_acquire().unwrap();
        assert!(matches!(breaker.permission(), Permission::Denied(_)), "one is under way");
        probe.succeeded();
        assert_eq!(breaker.permission(), Permission::Probe, "a second one has to succeed");
        breaker.try_acquire().unwrap().succeeded();
        assert_eq!(breaker.permission(), Permission::Allowed);
        let open_duration = Duration::from_hours(1);
        let Permission::Denied(wait) = opened(open_duration, 1).permission() else { panic!("it is open") };
        assert!(wait > open_duration / 2 && wait <= open_duration, "{wait:?}");
    }

    #[test]
    fn as_many_probes_as_are_asked_for_close_it_and_one_failure_opens_it_anew() {
        let breaker = opened(Duration::ZERO, 3);
        breaker.try_acquire().unwrap().succeeded();
        breaker.try_acquire().unwrap().succeeded();
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        breaker.try_acquire().unwrap().failed();
        assert_eq!(breaker.state(), BreakerState::Open);
        for _ in 0..3 {
            assert_ne!(breaker.state(), BreakerState::Closed);
            breaker.try_acquire().unwrap().succeeded();
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn a_call_that_is_dropped_counts_as_failed_and_frees_the_probe() {
        let breaker = opened(Duration::ZERO, 1);
        drop(breaker.try_acquire().unwrap());
        assert_eq!(breaker.state(), BreakerState::Open);
        breaker.try_acquire().unwrap().succeeded();
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn a_call_from_before_the_outage_neither_closes_nor_reopens_it() {
        let breaker =
            breaker(BreakerSettings { failures: 1, open_duration: Duration::ZERO, successes_to_close: 1 });
        let (early, late) = (breaker.try_acquire().unwrap(), breaker.try_acquire().unwrap());
        breaker.try_acquire().unwrap().failed();
        let probe = breaker.try_acquire().unwrap();
        early.succeeded();
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        late.failed();
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        probe.succeeded();
        assert_eq!(breaker.state(), BreakerState::Closed);
    }
}
