//! Where a test can make the engine fail. Only [`crate::testing`] sets these; without it every point is passed.

use std::sync::Arc;

use crate::model::{ids::SagaId, outcome::Failure, status::Direction};

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

pub(crate) type SharedFaults = Option<Arc<dyn Faults>>;
