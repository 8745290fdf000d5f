//! Where a test can make the engine fail. Without the cargo feature `testing`, `no_faults` stands in for this.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use serde_json::value::RawValue;

use crate::model::{
    ids::SagaId,
    outcome::{Failure, Outcome, Retry},
    status::Direction,
};

/// One side of one step, where a fault may happen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FaultPoint {
    /// The definition's name.
    pub definition: String,
    /// The step's name.
    pub step: String,
    /// Its side.
    pub direction: Direction,
}

/// What a test wants to happen at a [`FaultPoint`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The action answers no, without being run.
    Fail(Failure),
    /// The attempt is to be repeated, without being run.
    Retry(String),
    /// The step is left alone for this long, without being run and without using up an attempt.
    Hold(std::time::Duration),
    /// The work is thrown away before its commit, and the claim is left to its lease, as if the process had died.
    CrashBeforeCommit,
    /// The work is committed, but nobody here learns of it, as if the process had died right after.
    CrashAfterCommit,
}

/// Decides where faults happen.
pub trait Faults: Send + Sync + 'static {
    /// Is asked once each time before a saga's step is run.
    fn at(&self, saga_id: SagaId, point: &FaultPoint, attempt: u32) -> Option<Fault>;

    /// Is called where the process would die; a test with a real process ends it here.
    fn crashed(&self) {}

    /// The guard of the engine that is disabled, if one is.
    fn disabled_guard(&self) -> Option<DisabledGuard> {
        None
    }
}

/// A guard of the engine that a test disables, to show that the invariants notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisabledGuard {
    /// The fence: writes are accepted whatever their epoch.
    Fence,
    /// Undos: they answer done without being run.
    Undo,
    /// The idempotency key: calls carry a new one with every attempt.
    IdempotencyKey,
}

/// The faults of an engine, and whether one of them has made it crash.
#[derive(Default)]
pub(crate) struct FaultHooks {
    faults: Option<Arc<dyn Faults>>,
    crashed: AtomicBool,
}

/// What a fault makes of an attempt.
#[derive(Debug, Default)]
pub(crate) struct Injected {
    /// The answer, if the step is not to be run.
    pub(crate) answer: Option<Outcome<Option<Arc<RawValue>>>>,
    pub(crate) crash: CrashPoint,
}

/// Where in a commit the engine is to crash, if it is.
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

    /// This point, or else the other one.
    pub(crate) fn or(self, other: Self) -> Self {
        Self(self.0.or(other.0))
    }
}

impl FaultHooks {
    pub(crate) fn new(faults: Option<Arc<dyn Faults>>) -> Self {
        Self { faults, crashed: AtomicBool::new(false) }
    }

    /// Asks for a fault, once each time before a saga's step is run.
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

    pub(crate) fn is_fence_disabled(&self) -> bool {
        self.disabled_guard() == Some(DisabledGuard::Fence)
    }

    pub(crate) fn is_undo_disabled(&self) -> bool {
        self.disabled_guard() == Some(DisabledGuard::Undo)
    }

    /// What makes the idempotency key of a call another one for this attempt.
    pub(crate) fn key_salt(&self, attempt: u32) -> Option<u32> {
        (self.disabled_guard() == Some(DisabledGuard::IdempotencyKey)).then_some(attempt)
    }

    /// Makes the engine crash: it must leave no trace from now on.
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
