//! A circuit breaker: after some failures in a row nothing is sent for a while, then one mail tries whether it works
//! again.
//!
//! `failsafe` decides; two things it leaves open are added. Half-open it would let any number of calls through: here
//! it is one at a time. And a call that is dropped counts nowhere: here a [`Pass`] that nobody settles is a failure.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use failsafe::{
    Config, Instrument, StateMachine,
    backoff::{self, Constant},
    failure_policy::{self, ConsecutiveFailures},
};

use super::MailError;

/// When the breaker opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// So many failures in a row open it.
    pub failures: u32,
    /// So long nothing is sent then.
    pub open_for: Duration,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self { failures: 5, open_for: Duration::from_secs(10) }
    }
}

/// What the breaker does with the next mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// It lets mails through.
    Closed,
    /// It holds mails back.
    Open,
    /// It lets one mail through to see.
    HalfOpen,
}

impl BreakerState {
    /// `closed`, `open` or `half_open`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

pub(super) struct Breaker {
    gate: Mutex<Gate>,
    shown: Shown,
    open_for: Duration,
}

struct Gate {
    machine: StateMachine<ConsecutiveFailures<Constant>, Shown>,
    probing: bool,
}

/// While one mail tries the server, the others ask again this soon.
const PROBE_WAIT: Duration = Duration::from_secs(1);

impl Breaker {
    pub(super) fn new(settings: BreakerSettings) -> Self {
        let shown = Shown::default();
        let policy = failure_policy::consecutive_failures(
            settings.failures.max(1),
            backoff::constant(settings.open_for),
        );
        let machine = Config::new().failure_policy(policy).instrument(shown.clone()).build();
        Self { gate: Mutex::new(Gate { machine, probing: false }), shown, open_for: settings.open_for }
    }

    pub(super) fn state(&self) -> BreakerState {
        self.shown.get()
    }

    /// Lets a mail through, or says when to ask again.
    pub(super) fn admit(&self) -> Result<Pass<'_>, MailError> {
        let mut gate = self.lock();
        if !gate.machine.is_call_permitted() {
            return Err(MailError::BreakerOpen { retry_after: self.open_for });
        }
        let probe = match self.shown.get() {
            BreakerState::HalfOpen if gate.probing => {
                return Err(MailError::BreakerOpen { retry_after: PROBE_WAIT.min(self.open_for) });
            }
            BreakerState::HalfOpen => true,
            BreakerState::Closed | BreakerState::Open => false,
        };
        gate.probing |= probe;
        Ok(Pass { breaker: self, probe, settled: false })
    }

    fn settle(&self, probe: bool, verdict: Verdict) {
        let mut gate = self.lock();
        if probe {
            gate.probing = false;
        }
        match verdict {
            Verdict::Succeeded => gate.machine.on_success(),
            Verdict::Failed => gate.machine.on_error(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Gate> {
        // No code that holds it can leave it half changed.
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Copy)]
enum Verdict {
    Succeeded,
    Failed,
}

/// The leave to send one mail; dropped unsettled it is a failure.
#[must_use]
pub(super) struct Pass<'a> {
    breaker: &'a Breaker,
    probe: bool,
    settled: bool,
}

impl Pass<'_> {
    pub(super) fn succeeded(mut self) {
        self.settled = true;
        self.breaker.settle(self.probe, Verdict::Succeeded);
    }

    pub(super) fn failed(mut self) {
        self.settled = true;
        self.breaker.settle(self.probe, Verdict::Failed);
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if !self.settled {
            self.breaker.settle(self.probe, Verdict::Failed);
        }
    }
}

/// The state as the machine tells it; it tells only while the gate is locked, so what is shown is never out of date.
#[derive(Clone, Default)]
struct Shown(Arc<AtomicU8>);

impl Shown {
    fn get(&self) -> BreakerState {
        match self.0.load(Ordering::Acquire) {
            1 => BreakerState::Open,
            2 => BreakerState::HalfOpen,
            _ => BreakerState::Closed,
        }
    }

    fn set(&self, state: BreakerState) {
        let number = match state {
            BreakerState::Closed => 0,
            BreakerState::Open => 1,
            BreakerState::HalfOpen => 2,
        };
        if self.0.swap(number, Ordering::Release) != number {
            tracing::info!(breaker = "mail", state = state.name(), "the breaker changed its state");
        }
        metrics::gauge!("sagaline_breaker_state", "dependency" => "mail").set(f64::from(number));
    }
}

impl Instrument for Shown {
    fn on_call_rejected(&self) {
        metrics::counter!("sagaline_breaker_rejected_total", "dependency" => "mail").increment(1);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(open_for: Duration) -> Breaker {
        let breaker = Breaker::new(BreakerSettings { failures: 2, open_for });
        breaker.admit().unwrap().failed();
        assert_eq!(breaker.state(), BreakerState::Closed);
        breaker.admit().unwrap().failed();
        assert_eq!(breaker.state(), BreakerState::Open);
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_it_says_when_to_ask_again() {
        let open_for = Duration::from_hours(1);
        let breaker = opened(open_for);
        assert!(
            matches!(breaker.admit(), Err(MailError::BreakerOpen { retry_after }) if retry_after == open_for)
        );
    }

    #[test]
    fn a_success_in_between_starts_the_count_anew() {
        let breaker = Breaker::new(BreakerSettings { failures: 2, open_for: Duration::from_hours(1) });
        for _ in 0..3 {
            breaker.admit().unwrap().failed();
            breaker.admit().unwrap().succeeded();
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn half_open_one_mail_at_a_time_is_let_through() {
        let breaker = opened(Duration::ZERO);
        let probe = breaker.admit().unwrap();
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        assert!(breaker.admit().is_err());
        assert!(breaker.admit().is_err());
        probe.succeeded();
        assert_eq!(breaker.state(), BreakerState::Closed);
        let (_one, _other) = (breaker.admit().unwrap(), breaker.admit().unwrap());
    }

    #[test]
    fn a_mail_that_is_dropped_counts_as_failed_and_frees_the_probe() {
        let breaker = opened(Duration::ZERO);
        drop(breaker.admit().unwrap());
        assert_eq!(breaker.state(), BreakerState::Open);
        breaker.admit().unwrap().succeeded();
        assert_eq!(breaker.state(), BreakerState::Closed);
    }
}
