//! A claimed saga on its way through a worker.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::value::RawValue;

use crate::support::faults::CrashPoint;
use crate::{
    definition::{
        erased::{Invocation, StepAnswer},
        saga::Definition,
    },
    model::{graph::Graph, ids::SagaId, kinds::StepKind, status::Direction, transition::State},
    runtime::{leases::LeaseGuard, slots::JobSlots},
    store::claims::ReleaseRow,
};

/// One claimed saga, standing at one side of one step: what a worker receives, performs and commits.
///
/// Whoever drops a job without committing it leaves the claim to its lease.
pub struct Job {
    pub(crate) saga_id: SagaId,
    /// `None` when this process does not know the definition.
    pub(crate) definition: Option<Arc<Definition>>,
    pub(crate) definition_name: Arc<str>,
    pub(crate) queue: Arc<str>,
    pub(crate) state: State,
    /// The stored step name; differs from the graph's when this process does not know the step.
    pub(crate) step: Arc<str>,
    pub(crate) epoch: i64,
    pub(crate) history_seq: i32,
    pub(crate) values: Vec<Option<Arc<RawValue>>>,
    pub(crate) trace: Option<Arc<str>>,
    /// A cancel or a passed deadline waits for it: that is looked at before anything is called.
    pub(crate) interrupted: bool,
    /// Why what is stored can't be read: it is parked.
    pub(crate) unreadable: Option<String>,
    /// Must be run alone: its holder vanished again and again.
    pub(crate) isolated: bool,
    #[expect(dead_code, reason = "kept for what its drop does: the lease is not extended any more")]
    pub(crate) lease: LeaseGuard,
    pub(crate) slots: JobSlots,
}

impl Job {
    /// The saga.
    pub fn saga_id(&self) -> SagaId {
        self.saga_id
    }

    /// The definition's name.
    pub fn definition(&self) -> &str {
        &self.definition_name
    }

    /// The queue it stands in.
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// The step's name.
    pub fn step(&self) -> &str {
        &self.step
    }

    /// Which side of the step is to be done.
    pub fn direction(&self) -> Direction {
        self.state.direction
    }

    /// The attempt, from one.
    pub fn attempt(&self) -> u32 {
        self.state.attempt
    }

    /// The claim's epoch.
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// Names this attempt; no two attempts of any saga share it.
    pub fn task_id(&self) -> String {
        format!("{}:{}:{}:{}", self.saga_id, self.epoch, self.history_seq, self.state.attempt)
    }

    /// Whether the outside world is called, rather than a batch worked on in a transaction.
    pub fn is_call(&self) -> bool {
        self.node_kind() == Some(StepKind::Call)
    }

    pub(crate) fn node_kind(&self) -> Option<StepKind> {
        self.graph().and_then(|graph| graph.steps.get(self.state.step_index)).map(|node| node.kind)
    }

    pub(crate) fn graph(&self) -> Option<&Graph> {
        self.definition.as_ref().map(|definition| &definition.graph)
    }

    pub(crate) fn invocation(&self) -> Invocation {
        Invocation {
            saga_id: self.saga_id,
            step: self.step.to_string(),
            attempt: self.state.attempt,
            values: self.values.clone(),
            cause: self.state.cause.clone(),
            trace: self.trace.clone(),
            key_salt: None,
        }
    }
}

impl Job {
    /// How the claim is given back before the job was started.
    pub(crate) fn unstarted_release(&self) -> ReleaseRow {
        ReleaseRow {
            id: self.saga_id.0,
            epoch: self.epoch,
            attempt: i32::try_from(self.state.attempt.saturating_sub(1)).unwrap_or(i32::MAX),
            history_seq: self.history_seq,
            in_doubt: self.state.in_doubt,
            called: false,
            delay_ms: 0,
            error: None,
        }
    }

    /// How the claim is given back when the job was started in vain: the attempt stays counted.
    pub(crate) fn started_release(&self) -> ReleaseRow {
        let attempt = i32::try_from(self.state.attempt).unwrap_or(i32::MAX);
        ReleaseRow { attempt, ..self.unstarted_release() }
    }

    /// How the claim is given back when its call was started and the answer is not known: the attempt stays counted.
    pub(crate) fn release_after_call(&self) -> ReleaseRow {
        let row = self.started_release();
        ReleaseRow { in_doubt: row.in_doubt || self.direction() == Direction::Action, called: true, ..row }
    }
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job")
            .field("saga_id", &self.saga_id)
            .field("definition", &self.definition_name)
            .field("step", &self.step)
            .field("state", &self.state)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

/// What performing a job came to, to be committed with it.
#[derive(Debug)]
pub struct Performed {
    pub(crate) kind: PerformedKind,
}

#[derive(Debug)]
pub(crate) enum PerformedKind {
    /// A transaction step: the batch does it.
    InBatch,
    /// A call was made.
    Called {
        answer: StepAnswer,
        started: Instant,
        took: Duration,
        /// A test wants the process to die around this result's commit.
        crash: CrashPoint,
    },
}

/// What committing a job came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// The saga moved, durably. If it can go on at once, its next job is already in its feed.
    Moved,
    /// The claim was lost, or could not be kept: nothing of this attempt took effect here.
    Lost,
}
