//! The state of one breaker, under its lock.
//!
//! `failsafe` decides when to open, when to try, and when to close; three things it leaves open are added. Half-open it
//! would let any number of calls through: here it is one at a time. One success would close it: here it may take several.
//! And a call that began before the outage may end in the middle of it: here only probes count then.

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

use crate::{BreakerSettings, BreakerState, BreakerView, Dependency, Permission};

/// While one call tries the dependency, the others ask again this soon.
const PROBE_WAIT: Duration = Duration::from_secs(1);

pub(crate) struct Machine {
    failsafe: StateMachine<ConsecutiveFailures<Constant>, PublishedState>,
    published: PublishedState,
    settings: BreakerSettings,
    /// A trial call is under way.
    probing: bool,
    /// Trial calls that succeeded since it is half open.
    probe_successes: u32,
    failures: u32,
    opened: Option<Instant>,
    next_probe: Option<Instant>,
}

/// What an admitted call ended in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallResult {
    Succeeded,
    Failed,
}

/// What kind of call was admitted.
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

    /// Shows in the metrics how it is before it ever changes.
    pub(crate) fn publish(&self) {
        self.published.measure(self.published.state.load(Ordering::Acquire));
    }

    /// Lets a call through, or says after how long to ask again.
    pub(crate) fn try_acquire(&mut self) -> Result<Admission, Duration> {
        if !self.failsafe.is_call_permitted() {
            return Err(self.next_probe_in().unwrap_or(self.settings.open_duration));
        }
        match self.state() {
            BreakerState::HalfOpen if self.probing => {
                self.published.on_call_rejected();
                Err(PROBE_WAIT.min(self.settings.open_duration))
            }
            BreakerState::HalfOpen => {
                self.probing = true;
                Ok(Admission::Probe)
            }
            BreakerState::Closed | BreakerState::Open => Ok(Admission::Normal),
        }
    }

    /// What [`Self::try_acquire`] would answer.
    pub(crate) fn permission(&self) -> Permission {
        let wait = self.next_probe_in().unwrap_or(self.settings.open_duration);
        match self.state() {
            BreakerState::Closed => Permission::Allowed,
            BreakerState::HalfOpen if self.probing => {
                Permission::Denied(PROBE_WAIT.min(self.settings.open_duration))
            }
            BreakerState::Open if !wait.is_zero() => Permission::Denied(wait),
            BreakerState::HalfOpen | BreakerState::Open => Permission::Probe,
        }
    }

    pub(crate) fn record(&mut self, admission: Admission, result: CallResult) {
        match (admission, self.state()) {
            (Admission::Normal, BreakerState::Closed) => self.record_normal(result),
            // It began before the outage, and says nothing about now.
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

/// The state as failsafe tells it; it tells only while the machine is locked, so what is published is never out of date.
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
            metrics::counter!("sagaline_breaker_transitions_total", "dependency" => name, "to" => state.name())
                .increment(1);
            self.measure(number);
        }
    }

    fn measure(&self, number: u8) {
        let name = self.dependency.name();
        metrics::gauge!("sagaline_breaker_state", "dependency" => name).set(f64::from(number));
    }
}

impl Instrument for PublishedState {
    fn on_call_rejected(&self) {
        metrics::counter!("sagaline_breaker_rejected_total", "dependency" => self.dependency.name())
            .increment(1);
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
