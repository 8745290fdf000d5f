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

use crate::{BreakerSettings, BreakerState, BreakerView, Dependency, Prospect};

/// While one call tries the dependency, the others ask again this soon.
const PROBE_WAIT: Duration = Duration::from_secs(1);

pub(crate) struct Gate {
    machine: StateMachine<ConsecutiveFailures<Constant>, Shown>,
    shown: Shown,
    settings: BreakerSettings,
    /// A trial call is under way.
    probing: bool,
    /// Trial calls that succeeded since it is half open.
    probed: u32,
    failures: u32,
    opened: Option<Instant>,
    next_probe: Option<Instant>,
}

/// What an admitted call ended in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Succeeded,
    Failed,
}

/// What kind of call was admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Usual,
    Probe,
}

impl Gate {
    pub(crate) fn new(dependency: Dependency, settings: BreakerSettings) -> Self {
        let shown = Shown { dependency, state: Arc::default() };
        let policy = failure_policy::consecutive_failures(
            settings.failures.max(1),
            backoff::constant(settings.open_for),
        );
        let machine = Config::new().failure_policy(policy).instrument(shown.clone()).build();
        Self {
            machine,
            shown,
            settings,
            probing: false,
            probed: 0,
            failures: 0,
            opened: None,
            next_probe: None,
        }
    }

    pub(crate) fn state(&self) -> BreakerState {
        self.shown.get()
    }

    /// Shows in the metrics how it is before it ever changes.
    pub(crate) fn announce(&self) {
        self.shown.measure(self.shown.state.load(Ordering::Acquire));
    }

    /// Lets a call through, or says after how long to ask again.
    pub(crate) fn admit(&mut self) -> Result<Admission, Duration> {
        if !self.machine.is_call_permitted() {
            return Err(self.next_probe_in().unwrap_or(self.settings.open_for));
        }
        match self.state() {
            BreakerState::HalfOpen if self.probing => {
                self.shown.on_call_rejected();
                Err(PROBE_WAIT.min(self.settings.open_for))
            }
            BreakerState::HalfOpen => {
                self.probing = true;
                Ok(Admission::Probe)
            }
            BreakerState::Closed | BreakerState::Open => Ok(Admission::Usual),
        }
    }

    /// What [`Self::admit`] would answer.
    pub(crate) fn prospect(&self) -> Prospect {
        let wait = self.next_probe_in().unwrap_or(self.settings.open_for);
        match self.state() {
            BreakerState::Closed => Prospect::LetThrough,
            BreakerState::HalfOpen if self.probing => {
                Prospect::HeldBack(PROBE_WAIT.min(self.settings.open_for))
            }
            BreakerState::Open if !wait.is_zero() => Prospect::HeldBack(wait),
            BreakerState::HalfOpen | BreakerState::Open => Prospect::Probe,
        }
    }

    pub(crate) fn settle(&mut self, admission: Admission, verdict: Verdict) {
        match (admission, self.state()) {
            (Admission::Usual, BreakerState::Closed) => self.settle_usual(verdict),
            // It began before the outage, and says nothing about now.
            (Admission::Usual, BreakerState::HalfOpen | BreakerState::Open) => {}
            (Admission::Probe, _) => self.settle_probe(verdict),
        }
    }

    fn settle_usual(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Succeeded => {
                self.failures = 0;
                self.machine.on_success();
            }
            Verdict::Failed => {
                self.failures = self.failures.saturating_add(1);
                self.machine.on_error();
                if self.state() == BreakerState::Open {
                    self.opened = Some(Instant::now());
                    self.rest();
                }
            }
        }
    }

    fn settle_probe(&mut self, verdict: Verdict) {
        self.probing = false;
        match verdict {
            Verdict::Succeeded => {
                self.probed += 1;
                if self.probed >= self.settings.probes {
                    self.machine.on_success();
                    (self.failures, self.probed, self.opened, self.next_probe) = (0, 0, None, None);
                }
            }
            Verdict::Failed => {
                self.failures = self.failures.saturating_add(1);
                self.machine.on_error();
                self.rest();
            }
        }
    }

    fn rest(&mut self) {
        self.probed = 0;
        self.next_probe = Some(Instant::now() + self.settings.open_for);
    }

    fn next_probe_in(&self) -> Option<Duration> {
        self.next_probe.map(|at| at.saturating_duration_since(Instant::now()))
    }

    pub(crate) fn view(&self) -> BreakerView {
        BreakerView {
            dependency: self.shown.dependency,
            state: self.state(),
            failures: self.failures,
            opened_ago: self.opened.map(|at| at.elapsed()),
            next_probe_in: self.next_probe_in(),
            settings: self.settings,
        }
    }
}

/// The state as the machine tells it; it tells only while the gate is locked, so what is shown is never out of date.
#[derive(Clone)]
struct Shown {
    dependency: Dependency,
    state: Arc<AtomicU8>,
}

impl Shown {
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

impl Instrument for Shown {
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
