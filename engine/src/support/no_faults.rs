//! Replaces the fault hooks in an engine without the cargo feature `testing`. Everything here is constant, so the
//! compiler removes it.

use crate::model::{ids::SagaId, outcome::Outcome, status::Direction, stored_value::StoredValue};

/// No faults.
#[derive(Debug, Default)]
pub(crate) struct FaultHooks(());

/// The effect of a fault on an attempt: none.
#[derive(Debug, Default)]
pub(crate) struct Injected {
    /// The answer to use instead of running the step.
    pub(crate) answer: Option<Outcome<Option<StoredValue>>>,
    pub(crate) crash: CrashPoint,
}

/// Where the engine crashes during the commit: nowhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CrashPoint(());

#[expect(clippy::unused_self, reason = "the interface of the real fault hooks")]
impl CrashPoint {
    pub(crate) const BEFORE_COMMIT: Self = Self(());

    pub(crate) const fn is_before_commit(self) -> bool {
        false
    }

    pub(crate) const fn is_set(self) -> bool {
        false
    }

    pub(crate) const fn or(self, _: Self) -> Self {
        self
    }
}

#[expect(clippy::unused_self, reason = "the interface of the real fault hooks")]
impl FaultHooks {
    #[expect(clippy::inline_always, reason = "it must leave nothing in the hot path")]
    #[inline(always)]
    pub(crate) fn before_step(&self, _: SagaId, _: &str, _: &str, _: Direction, _: u32) -> Injected {
        Injected::default()
    }

    pub(crate) const fn is_fence_disabled(&self) -> bool {
        false
    }

    pub(crate) const fn is_undo_disabled(&self) -> bool {
        false
    }

    pub(crate) const fn idempotency_key_salt(&self, _: u32) -> Option<u32> {
        None
    }

    pub(crate) const fn crash(&self) {}

    pub(crate) const fn is_crashed(&self) -> bool {
        false
    }
}
