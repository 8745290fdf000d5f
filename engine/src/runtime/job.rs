//! A claimed saga on its way through a worker.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use uuid::Uuid;

use crate::{
    definition::{
        invocation::Invocation, saga::Definition, start_context::StartContext, step_answer::StepAnswer,
    },
    model::{
        child::ChildOf, graph::Graph, ids::SagaId, kinds::StepKind, status::Direction,
        stored_value::StoredValues, transition::State,
    },
    runtime::{leases::LeaseGuard, slots::JobSlots},
    store::claims::ReleaseRow,
    support::faults::CrashPoint,
};

/// Where a saga stands in its tree.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ancestry {
    /// The saga whose child it is.
    pub(crate) parent_id: Option<Uuid>,
    /// The topmost ancestor.
    pub(crate) root_id: Option<Uuid>,
    /// How many ancestors it has.
    pub(crate) depth: i16,
}

impl Ancestry {
    pub(crate) fn of(child: &ChildOf) -> Self {
        let depth = i16::try_from(child.depth).unwrap_or(i16::MAX);
        Self { parent_id: Some(child.parent_id.0), root_id: Some(child.root_id.0), depth }
    }
}

/// One claimed saga at one side of one step: what a worker receives, performs and commits.
///
/// If a job is dropped without being committed, its claim stays until the lease ends.
pub struct Job {
    pub(crate) saga_id: SagaId,
    /// With the graph that the saga was started with.
    pub(crate) definition: Arc<Definition>,
    pub(crate) definition_name: Arc<str>,
    pub(crate) queue: Arc<str>,
    pub(crate) state: State,
    /// The stored step name.
    pub(crate) step: Arc<str>,
    pub(crate) epoch: i64,
    pub(crate) history_seq: i32,
    pub(crate) values: StoredValues,
    pub(crate) trace: Option<Arc<str>>,
    pub(crate) ancestry: Ancestry,
    /// Whether a cancel or a passed deadline has to be applied before any call is made.
    pub(crate) interrupted: bool,
    /// Why the stored data can't be read, in which case the saga is dead-lettered.
    pub(crate) unreadable: Option<String>,
    /// Whether the saga must run alone, because its holder vanished twice or more in a row.
    pub(crate) isolated: bool,
    #[expect(dead_code, reason = "kept for its drop, which ends the extension of the lease")]
    pub(crate) lease: LeaseGuard,
    pub(crate) slots: JobSlots,
}

impl Job {
    /// The saga's id.
    pub fn saga_id(&self) -> SagaId {
        self.saga_id
    }

    /// The definition's name.
    pub fn definition(&self) -> &str {
        &self.definition_name
    }

    /// The saga's queue.
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// The step's name.
    pub fn step(&self) -> &str {
        &self.step
    }

    /// Whether the step's action or its undo is to be run.
    pub fn direction(&self) -> Direction {
        self.state.direction
    }

    /// The number of the attempt, from one.
    pub fn attempt(&self) -> u32 {
        self.state.attempt
    }

    /// The claim's epoch.
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// A name for this attempt, unique among all attempts of all sagas.
    pub fn task_id(&self) -> String {
        format!("{}:{}:{}:{}", self.saga_id, self.epoch, self.history_seq, self.state.attempt)
    }

    /// Whether the job is a call, rather than a transaction step that runs in a batch.
    pub fn is_call(&self) -> bool {
        self.node_kind() == Some(StepKind::Call)
    }

    pub(crate) fn node_kind(&self) -> Option<StepKind> {
        self.graph().steps.get(self.state.step_index).map(|node| node.kind)
    }

    pub(crate) fn graph(&self) -> &Graph {
        &self.definition.graph
    }

    /// The rows that its step names as those that it locks, in their order; none for a call.
    pub(crate) fn locks(&self) -> Vec<String> {
        let action = self.definition.actions.get(self.state.step_index);
        let mut rows = action.map(|action| action.locks(&self.values)).unwrap_or_default();
        rows.sort_unstable();
        rows.dedup();
        rows
    }

    pub(crate) fn invocation(&self) -> Invocation {
        Invocation {
            saga_id: self.saga_id,
            step: self.step.to_string(),
            attempt: self.state.attempt,
            values: self.values.clone(),
            cause: self.state.cause.clone(),
            trace: self.trace.clone(),
            context: StartContext::default(),
            call: None,
            idempotency_key_salt: None,
        }
    }
}

impl Job {
    /// The release of a job that was not started.
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
            held_up: false,
        }
    }

    /// The release of a job that was started without success: the attempt still counts.
    pub(crate) fn started_release(&self) -> ReleaseRow {
        let attempt = i32::try_from(self.state.attempt).unwrap_or(i32::MAX);
        ReleaseRow { attempt, ..self.unstarted_release() }
    }

    /// The release of a job whose call was started and whose answer is not known: the attempt still counts.
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

/// The result of performing a job, to be committed with it.
#[derive(Debug)]
pub struct Performed {
    pub(crate) kind: PerformedKind,
}

impl Performed {
    /// For a job that [is no call](Job::is_call): its batch does all of it.
    pub const fn in_batch() -> Self {
        Self { kind: PerformedKind::InBatch }
    }
}

#[derive(Debug)]
pub(crate) enum PerformedKind {
    /// A transaction step, which the batch will run.
    InBatch,
    /// A call that was not made, because the claim's lease had ended.
    NotCalled,
    /// A call that was made.
    Called {
        answer: StepAnswer,
        started: Instant,
        took: Duration,
        /// Where a test wants the process to crash around the commit of this result.
        crash: CrashPoint,
    },
}

/// The result of committing a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// The result is committed, and the saga has taken its next state. If it can continue at once, its next job is
    /// already in its feed.
    Applied,
    /// The claim was lost, or could not be kept: this attempt had no effect on the saga.
    Lost,
}
