//! A claimed saga on its way through a worker.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::value::RawValue;
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    definition::{
        erased::{Invocation, StepAnswer},
        saga::Definition,
    },
    model::{
        graph::{Graph, StepKind},
        ids::SagaId,
        status::Direction,
        transition::State,
    },
    runtime::{
        claim::{allowance::ProbeSlot, claim_loop::ProbationSlot},
        leases::LeaseGuard,
    },
    support::faults::Fault,
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

/// The room that a job takes up in its feed.
#[derive(Debug, Default)]
pub(crate) struct JobSlots {
    #[expect(dead_code, reason = "kept for what its drop does")]
    pub(crate) slot: Option<OwnedSemaphorePermit>,
    #[expect(dead_code, reason = "kept for what its drop does")]
    pub(crate) probation: Option<ProbationSlot>,
    pub(crate) probe: Option<ProbeSlot>,
}

impl JobSlots {
    /// Whether a throttle let this one alone through.
    pub(crate) fn is_probe(&self) -> bool {
        self.probe.is_some()
    }
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
        self.graph().and_then(|graph| graph.steps.get(self.state.at)).map(|node| node.kind)
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
        crash: Option<Fault>,
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
