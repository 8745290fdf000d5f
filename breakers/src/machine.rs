//! The state machine of one breaker. [`crate::Breaker`] keeps it under a lock.
//!
//! `failsafe` decides when the breaker opens, becomes half open and closes. This module adds three rules. While half
//! open, `failsafe` allows any number of concurrent calls; this breaker allows one. `failsafe` closes after one
//! success; this breaker needs as many as the settings say. And a call that began before the outage does not count when
//! it ends during the outage; only probes do.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use failsafe::{
    Config, Instrument, StateMachine,
    backoff::{self, Constant},
    failure_policy::{self, ConsecutiveFailures},
};

use crate::{
    dependency::Dependency,
    metrics::{REJECTED, STATE, TRANSITIONS},
    settings::BreakerSettings,
    view::{BreakerState, BreakerView, Permission},
};

/// While a probe is in progress, other callers ask again after this time.
const PROBE_RETRY: Duration = Duration::from_secs(1);

pub(crate) struct Machine {
    failsafe: StateMachine<ConsecutiveFailures<Constant>, PublishedState>,
    published: PublishedState,
    settings: BreakerSettings,
    /// Whether a probe is in progress.
    probing: bool,
    /// Consecutive successful probes since the breaker became half open.
    probe_successes: u32,
    failures: u32,
    opened: Option<Instant>,
    next_probe: Option<Instant>,
}

/// How an admitted call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallResult {
    Succeeded,
    Failed,
}

/// The kind of an admitted call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Normal,
    Probe,
}

impl Machine {
    pub(crate) fn new(dependency: Dependency, settings: BreakerSettings) -> Self {
        let published = PublishedState { dependency, state: Arc::default() };
        let policy = failure_policy::consecutive_failures(
            settings.failures.max(1),
            backoff::constant(settings.open_duration),
        );
        let failsafe = Config::new().failure_policy(policy).instrument(published.clone()).build();
        Self {
            failsafe,
            published,
            settings,
            probing: false,
            probe_successes: 0,
            failures: 0,
            opened: None,
            next_probe: None,
        }
    }

    pub(crate) fn state(&self) -> BreakerState {
        self.published.get()
    }

    /// Publishes the state to the metrics, which otherwise show it from its first change on.
    pub(crate) fn publish(&self) {
        self.published.measure(self.published.state.load(Ordering::Acquire));
    }

    /// Admits a call, or returns how long to wait before asking again.
    pub(crate) fn try_acquire(&mut self) -> Result<Admission, Duration> {
        if !self.failsafe.is_call_permitted() {
            return Err(self.next_probe_in().unwrap_or(self.settings.open_duration));
        }
        match self.state() {
            BreakerState::HalfOpen if self.probing => {
                self.published.on_call_rejected();
                Err(PROBE_RETRY.min(self.settings.open_duration))
            }
            BreakerState::HalfOpen => {
                self.probing = true;
                Ok(Admission::Probe)
            }
            BreakerState::Closed | BreakerState::Open => Ok(Admission::Normal),
        }
    }

    /// What [`Self::try_acquire`] would return, without admitting a call.
    pub(crate) fn permission(&self) -> Permission {
        let wait = self.next_probe_in().unwrap_or(self.settings.open_duration);
        match self.state() {
            BreakerState::Closed => Permission::Allowed,
            BreakerState::HalfOpen if self.probing => {
                Permission::Denied(PROBE_RETRY.min(self.settings.open_duration))
            }
            BreakerState::Open if !wait.is_zero() => Permission::Denied(wait),
            BreakerState::HalfOpen | BreakerState::Open => Permission::Probe,
        }
    }

    pub(crate) fn record(&mut self, admission: Admission, result: CallResult) {
        match (admission, self.state()) {
            (Admission::Normal, BreakerState::Closed) => self.record_normal(result),
            // The call began before the outage, so its result says nothing about the present.
            (Admission::Normal, BreakerState::HalfOpen | BreakerState::Open) => {}
            (Admission::Probe, _) => self.record_probe(result),
        }
    }

    fn record_normal(&mut self, result: CallResult) {
        match result {
            CallResult::Succeeded => {
                self.failures = 0;
                self.failsafe.on_success();
            }
            CallResult::Failed => {
                self.failures = self.failures.saturating_add(1);
                self.failsafe.on_error();
                if self.state() == BreakerState::Open {
                    self.opened = Some(Instant::now());
                    self.schedule_probe();
                }
            }
        }
    }

    fn record_probe(&mut self, result: CallResult) {
        self.probing = false;
        match result {
            CallResult::Succeeded => {
                self.probe_successes += 1;
                if self.probe_successes >= self.settings.successes_to_close {
                    self.failsafe.on_success();
                    (self.failures, self.probe_successes, self.opened, self.next_probe) = (0, 0, None, None);
                }
            }
            CallResult::Failed => {
                self.failures = self.failures.saturating_add(1);
                self.failsafe.on_error();
                self.schedule_probe();
            }
        }
    }

    fn schedule_probe(&mut self) {
        self.probe_successes = 0;
        self.next_probe = Some(Instant::now() + self.settings.open_duration);
    }

    fn next_probe_in(&self) -> Option<Duration> {
        self.next_probe.map(|at| at.saturating_duration_since(Instant::now()))
    }

    pub(crate) fn view(&self) -> BreakerView {
        BreakerView {
            dependency: self.published.dependency,
            state: self.state(),
            failures: self.failures,
            opened_ago: self.opened.map(|at| at.elapsed()),
            next_probe_in: self.next_probe_in(),
            settings: self.settings,
        }
    }
}

/// The state as `failsafe` reports it. It reports only while the machine is locked, so the copy is never out of date.
#[derive(Clone)]
struct PublishedState {
    dependency: Dependency,
    state: Arc<AtomicU8>,
}

impl PublishedState {
    fn get(&self) -> BreakerState {
        match self.state.load(Ordering::Acquire) {
            1 => BreakerState::HalfOpen,
            2 => BreakerState::Open,
            _ => BreakerState::Closed,
        }
    }

    fn set(&self, state: BreakerState) {
        let number = match state {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        };
        let name = self.dependency.name();
        if self.state.swap(number, Ordering::Release) != number {
            match state {
                BreakerState::Open => tracing::warn!(dependency = name, "the circuit breaker opened"),
                BreakerState::HalfOpen | BreakerState::Closed => {
                    tracing::info!(
                        dependency = name,
                        state = state.name(),
                        "the circuit breaker changed its state"
                    );
                }
            }
            metrics::counter!(TRANSITIONS, "dependency" => name, "to" => state.name()).increment(1);
            self.measure(number);
        }
    }

    fn measure(&self, number: u8) {
        let name = self.dependency.name();
        metrics::gauge!(STATE, "dependency" => name).set(f64::from(number));
    }
}

impl Instrument for PublishedState {
    fn on_call_rejected(&self) {
        metrics::counter!(REJECTED, "dependency" => self.dependency.name()).increment(1);
    }

    fn on_open(&self) {
        self.set(BreakerState::Open);
    }

    fn on_half_open(&self) {
        self.set(BreakerState::HalfOpen);
    }

    fn on_closed(&self) {
        self.set(BreakerState::Closed);
    }
}
