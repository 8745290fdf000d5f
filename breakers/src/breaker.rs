//! The circuit breaker of one dependency, and the permit that it grants for each call.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    dependency::Dependency,
    machine::{Admission, CallResult, Machine},
    settings::BreakerSettings,
    view::{BreakerState, BreakerView, Permission},
};

/// Guards the calls to one dependency. Cheap to clone; all clones share one state.
#[derive(Clone)]
pub struct Breaker {
    inner: Arc<Inner>,
}

struct Inner {
    dependency: Dependency,
    settings: BreakerSettings,
    machine: Mutex<Machine>,
    /// Notified of every change of the state.
    changed: Arc<Notify>,
}

/// The breaker denies the call: nothing was attempted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{dependency}` has failed too often; nothing is tried before its next probe")]
pub struct BreakerOpen {
    /// The dependency that was to be called.
    pub dependency: Dependency,
    /// The time until the next probe is due, or until the one in progress may have ended.
    pub retry_after: Duration,
    /// How long the breaker stays open each time, as set.
    pub open_duration: Duration,
}

impl BreakerOpen {
    /// How long to wait before asking again. Spread over a quarter of the open time, so that denied callers do not all
    /// return at the moment of the probe.
    pub fn retry_delay(&self) -> Duration {
        self.retry_after + (self.open_duration / 4).mul_f64(rand::random())
    }
}

impl Breaker {
    /// Creates a closed breaker that no registry knows; those that the API shows come from [`crate::Breakers::of`].
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

    /// Grants a permit for one call; the [`CallPermit`] records how the call ended.
    ///
    /// # Errors
    /// When the breaker is open, or half open with a probe in progress. The caller attempts nothing, counts no attempt,
    /// and asks again after [`BreakerOpen::retry_delay`].
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

    /// The error that a denied call gets now.
    pub fn open_error(&self) -> BreakerOpen {
        let (view, open_duration) = (self.view(), self.inner.settings.open_duration);
        let retry_after = view.next_probe_in.unwrap_or_default();
        BreakerOpen { dependency: self.inner.dependency, retry_after, open_duration }
    }

    /// What would happen to a call that is made now; grants nothing.
    pub fn permission(&self) -> Permission {
        self.inner.machine.lock().permission()
    }

    /// The breaker's state.
    pub fn state(&self) -> BreakerState {
        self.inner.machine.lock().state()
    }

    /// The breaker's state, counts and settings at this moment.
    pub fn view(&self) -> BreakerView {
        self.inner.machine.lock().view()
    }

    /// Publishes the state to the metrics from now on. Only for the breaker of a dependency that the registry holds:
    /// another breaker of the same dependency would overwrite its metrics.
    pub(crate) fn with_metrics(self) -> Self {
        self.inner.machine.lock().publish();
        self
    }

    fn record(&self, admission: Admission, result: CallResult) {
        self.locked(|machine| machine.record(admission, result));
    }

    fn locked<T>(&self, change: impl FnOnce(&mut Machine) -> T) -> T {
        let mut machine = self.inner.machine.lock();
        let before = machine.state();
        let result = change(&mut machine);
        let changed = machine.state() != before;
        drop(machine);
        if changed {
            self.inner.changed.notify_one();
        }
        result
    }
}

impl std::fmt::Debug for Breaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Breaker").field(&self.view()).finish()
    }
}

/// The permission to make one call. Dropped without a result, as by a time-out around the call, it counts as a failure.
#[must_use = "say how the call ended"]
#[derive(Debug)]
pub struct CallPermit {
    breaker: Breaker,
    admission: Admission,
    recorded: bool,
}

impl CallPermit {
    /// Whether the call is a probe. The work that a probe was chosen for is not at fault if the probe fails, so its
    /// failure should not count as one of that work's attempts.
    pub fn is_probe(&self) -> bool {
        match self.admission {
            Admission::Probe => true,
            Admission::Normal => false,
        }
    }

    /// Records that the dependency works. An answer that refuses only this one call is a success in that sense.
    pub fn succeeded(mut self) {
        self.recorded = true;
        self.breaker.record(self.admission, CallResult::Succeeded);
    }

    /// Records that the dependency is unreachable, slow or busy.
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
    fn consecutive_failures_open_the_breaker_and_the_error_has_a_retry_delay() {
        let open_duration = Duration::from_hours(1);
        let breaker = opened(open_duration, 1);
        let open = breaker.try_acquire().unwrap_err();
        assert!(open.retry_after <= open_duration && open.retry_after > open_duration / 2, "{open:?}");
        let view = breaker.view();
        assert_eq!((view.failures, view.state), (2, BreakerState::Open));
        assert!(view.opened_ago.is_some() && view.next_probe_in.is_some(), "{view:?}");
    }

    #[test]
    fn retry_delays_are_spread_over_a_quarter_of_the_open_time() {
        let open_duration = Duration::from_secs(80);
        let open =
            BreakerOpen { dependency: Dependency::Smtp, retry_after: Duration::from_secs(8), open_duration };
        let waits: Vec<_> = (0..200).map(|_| open.retry_delay()).collect();
        assert!(waits.iter().all(|wait| (Duration::from_secs(8)..=Duration::from_secs(28)).contains(wait)));
        let tenths: std::collections::BTreeSet<_> = waits.iter().map(|wait| wait.as_secs() / 2).collect();
        assert!(tenths.len() > 5, "not spread: {waits:?}");
    }

    #[test]
    fn a_success_resets_the_count_of_failures() {
        let open_duration = Duration::from_hours(1);
        let breaker = breaker(BreakerSettings { failures: 2, open_duration, successes_to_close: 1 });
        for _ in 0..3 {
            breaker.try_acquire().unwrap().failed();
            breaker.try_acquire().unwrap().succeeded();
        }
        assert_eq!((breaker.state(), breaker.view().failures), (BreakerState::Closed, 0));
    }

    #[test]
    fn a_half_open_breaker_admits_one_call_at_a_time() {
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
    fn the_permission_of_the_next_call_can_be_read_without_making_it() {
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
    fn the_set_number_of_successful_probes_closes_the_breaker_and_one_failure_reopens_it() {
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
    fn a_dropped_permit_counts_as_a_failure_and_frees_the_probe() {
        let breaker = opened(Duration::ZERO, 1);
        drop(breaker.try_acquire().unwrap());
        assert_eq!(breaker.state(), BreakerState::Open);
        breaker.try_acquire().unwrap().succeeded();
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn a_call_from_before_the_outage_neither_closes_nor_reopens_the_breaker() {
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
