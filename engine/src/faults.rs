//! Where a test can make the engine fail. Only [`crate::testing`] sets these; without it every point is passed.

use std::sync::Arc;

use crate::{ids::SagaId, outcome::Failure, status::Direction};

/// One side of one step.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The definition's name.
    pub definition: String,
    /// The step's name.
    pub step: String,
    /// Its side.
    pub direction: Direction,
}

/// What a test wants at a place.
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
    fn at(&self, saga_id: SagaId, place: &Place, attempt: u32) -> Option<Fault>;

    /// Is called where the process would die; a test with a real process ends it here.
    fn died(&self) {}

    /// Which guard of the engine is broken on purpose, to show that the invariants notice.
    fn sabotage(&self) -> Option<Sabotage> {
        None
    }
}

/// A guard that a test takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Writes are accepted whatever their epoch.
    NoFence,
    /// Undos answer done without being run.
    ForgottenUndo,
    /// Calls carry a new idempotency key with every attempt.
    KeyPerAttempt,
}

pub(crate) type SharedFaults = Option<Arc<dyn Faults>>;
