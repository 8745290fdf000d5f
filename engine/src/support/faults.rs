//! Hooks by which tests inject faults. Without the cargo feature `testing`, `no_faults` replaces this module.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::model::{
    ids::SagaId,
    outcome::{Failure, Outcome, Retry},
    status::Direction,
    stored_value::StoredValue,
};

/// One side of one step, at which a fault may happen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FaultPoint {
    /// The definition's name.
    pub definition: String,
    /// The step's name.
    pub step: String,
    /// The side of the step.
    pub direction: Direction,
}

/// A fault that a test injects at a [`FaultPoint`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The action fails for good, without being run.
    Fail(Failure),
    /// The attempt has to be repeated, without being run.
    Retry(String),
    /// The step is snoozed for this long, without being run and without using up an attempt.
    Hold(std::time::Duration),
    /// The work is rolled back before its commit, and the claim stays until its lease ends, as if the process had died.
    CrashBeforeCommit,
    /// The work is committed, but the process does not learn of it, as if it had died right after.
    CrashAfterCommit,
}

/// Decides where faults happen.
pub trait Faults: Send + Sync + 'static {
    /// Called once before each run of a saga's step.
    fn at(&self, saga_id: SagaId, point: &FaultPoint, attempt: u32) -> Option<Fault>;

    /// Called where the process would die; a test with a real process ends it here.
    fn crashed(&self) {}

    /// Whether the engine looks for batch steps that write rows although they answer every saga with a no.
    fn looks_for_leftovers(&self) -> bool {
        false
    }

    /// Called for each saga whose batch step has left rows behind.
    fn left_behind(&self, _saga_id: SagaId, _point: &FaultPoint) {}

    /// The guard that is disabled, if any.
    fn disabled_guard(&self) -> Option<DisabledGuard> {
        None
    }
}

/// A guard of the engine that a test disables to show that the invariants notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisabledGuard {
    /// The fence: writes are accepted with any epoch.
    Fence,
    /// Undos: they are reported as done without being run.
    Undo,
    /// The idempotency key: every attempt of a call gets another key.
    IdempotencyKey,
}

/// The faults of an engine, and whether one of them has made it crash.
#[derive(Default)]
pub(crate) struct FaultHooks {
    faults: Option<Arc<dyn Faults>>,
    crashed: AtomicBool,
}

/// The effect of a fault on an attempt.
#[derive(Debug, Default)]
pub(crate) struct Injected {
    /// The answer to use instead of running the step.
    pub(crate) answer: Option<Outcome<Option<StoredValue>>>,
    pub(crate) crash: CrashPoint,
}

/// Where the engine crashes during the commit, if it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CrashPoint(Option<Crash>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Crash {
    BeforeCommit,
    AfterCommit,
}

impl CrashPoint {
    pub(crate) const BEFORE_COMMIT: Self = Self(Some(Crash::BeforeCommit));

    pub(crate) fn is_before_commit(self) -> bool {
        self == Self::BEFORE_COMMIT
    }

    pub(crate) fn is_set(self) -> bool {
        self.0.is_some()
    }

    /// This crash point, or else the other one.
    pub(crate) fn or(self, other: Self) -> Self {
        Self(self.0.or(other.0))
    }
}

impl FaultHooks {
    pub(crate) fn new(faults: Option<Arc<dyn Faults>>) -> Self {
        Self { faults, crashed: AtomicBool::new(false) }
    }

    /// Returns the fault to inject; called once before each run of a saga's step.
    pub(crate) fn before_step(
        &self,
        saga_id: SagaId,
        definition: &str,
        step: &str,
        direction: Direction,
        attempt: u32,
    ) -> Injected {
        let Some(faults) = &self.faults else { return Injected::default() };
        let point = FaultPoint { definition: definition.into(), step: step.into(), direction };
        let (answer, crash) = match faults.at(saga_id, &point, attempt) {
            None => (None, None),
            Some(Fault::Fail(failure)) => (Some(Outcome::Fail(failure)), None),
            Some(Fault::Retry(error)) => (Some(Outcome::Retry(Retry::message(error))), None),
            Some(Fault::Hold(delay)) => (Some(Outcome::Retry(Retry::snooze(delay, "held by a test"))), None),
            Some(Fault::CrashBeforeCommit) => (None, Some(Crash::BeforeCommit)),
            Some(Fault::CrashAfterCommit) => (None, Some(Crash::AfterCommit)),
        };
        Injected { answer, crash: CrashPoint(crash) }
    }

    pub(crate) fn looks_for_leftovers(&self) -> bool {
        self.faults.as_ref().is_some_and(|faults| faults.looks_for_leftovers())
    }

    pub(crate) fn left_behind(&self, saga_id: SagaId, point: &FaultPoint) {
        if let Some(faults) = &self.faults {
            faults.left_behind(saga_id, point);
        }
    }

    pub(crate) fn is_fence_disabled(&self) -> bool {
        self.disabled_guard() == Some(DisabledGuard::Fence)
    }

    pub(crate) fn is_undo_disabled(&self) -> bool {
        self.disabled_guard() == Some(DisabledGuard::Undo)
    }

    /// A salt that makes the idempotency key differ between attempts, if that guard is disabled.
    pub(crate) fn idempotency_key_salt(&self, attempt: u32) -> Option<u32> {
        (self.disabled_guard() == Some(DisabledGuard::IdempotencyKey)).then_some(attempt)
    }

    /// Simulates a crash: the engine must not write anything from now on.
    pub(crate) fn crash(&self) {
        if let Some(faults) = &self.faults {
            faults.crashed();
        }
        self.crashed.store(true, Ordering::Release);
    }

    pub(crate) fn is_crashed(&self) -> bool {
        self.crashed.load(Ordering::Acquire)
    }

    fn disabled_guard(&self) -> Option<DisabledGuard> {
        self.faults.as_ref()?.disabled_guard()
    }
}
