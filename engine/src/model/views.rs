//! Read models of sagas and their histories, for APIs, consoles and tests.

use std::time::Duration;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{
    arms::Arms,
    cause::Cause,
    child::ChildOf,
    ids::{SagaId, WorkerId},
    progress::ReportedProgress,
    status::{Direction, Status},
};

/// One saga as it is stored, without its input.
#[derive(Clone, Debug, Serialize)]
pub struct SagaView {
    /// The saga's id.
    pub saga_id: SagaId,
    /// The definition's name.
    pub definition: String,
    /// The hash of the definition's graph when the saga was started.
    pub graph_hash: String,
    /// The saga's queue.
    pub queue: String,
    /// The saga's status.
    pub status: Status,
    /// The step at which the saga is, or at which it ended.
    pub step: String,
    /// The side of the step that is next, in progress, or was last.
    pub direction: Direction,
    /// The key that makes the start idempotent, if the caller gave one.
    pub business_key: Option<String>,
    /// The current or last attempt, from one; zero before the first.
    pub attempt: u32,
    /// When the saga can continue, or when its lease ends; `None` once it has ended.
    pub due_at: Option<DateTime<Utc>>,
    /// When the saga compensates if it has not passed its pivot.
    pub deadline_at: Option<DateTime<Utc>>,
    /// The worker that holds the saga's lease.
    pub lease_owner: Option<WorkerId>,
    /// Increases with every claim.
    pub epoch: i64,
    /// The last error, one sentence.
    pub error: Option<String>,
    /// Why the saga compensates or compensated.
    pub cause: Option<Cause>,
    /// Whether a cancel was requested that no worker has acted on yet.
    pub cancel_requested: bool,
    /// What the saga waits for besides its due time, if nobody holds it: `sleep` (a time), `signal` (a message, or a
    /// time), `children` (their ends), `version` (a process that knows its graph), `lock` (a lock that another
    /// transaction holds, or its turn at a step that is slow).
    pub waits_for: Option<String>,
    /// When the sleep, or the wait for a signal, ends at the latest that the saga has entered at its step.
    pub wait_until: Option<DateTime<Utc>>,
    /// The signal that ends that wait.
    pub signal: Option<String>,
    /// The arms that the saga has taken, in the order of its choices.
    pub arms: Arms,
    /// How far the call at this side of the step is, as it reported last. It is kept while the saga waits for the next
    /// attempt or is dead.
    pub progress: Option<ReportedProgress>,
    /// Its place among the children of another saga, if it is one.
    pub child_of: Option<ChildOf>,
    /// When the saga was started.
    pub created_at: DateTime<Utc>,
    /// When the saga completed, was compensated, or was given up.
    pub ended_at: Option<DateTime<Utc>>,
}

/// One saga with what it was started with and what it gave.
#[derive(Clone, Debug)]
pub struct SagaPayload {
    /// The saga.
    pub saga: SagaView,
    /// Its input.
    pub input: Value,
    /// Its result, if it has completed and its definition gives one.
    pub result: Option<Value>,
}

/// One entry of a saga's history. Entries are numbered from one without gaps.
#[derive(Clone, Debug, Serialize)]
pub struct HistoryEntry {
    /// The number of the entry.
    pub seq: i32,
    /// The name of the step.
    pub step: String,
    /// The side of the step.
    pub direction: Direction,
    /// What happened.
    pub outcome: HistoryOutcome,
    /// The number of the attempt, from one; zero for entries that are not attempts.
    pub attempt: u32,
    /// When the attempt began.
    pub started_at: DateTime<Utc>,
    /// How long the attempt took.
    pub duration_ms: i64,
    /// The output of the step.
    pub output: Option<Value>,
    /// The error with its causes, outermost first; for a cancel, the actor and the reason.
    pub error: Vec<String>,
    /// The details that the step added to the error.
    pub details: Option<Value>,
    /// The process that wrote the entry.
    pub worker: Option<WorkerId>,
    /// The epoch of that process's claim.
    pub epoch: i64,
}

/// What an entry of the history records.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    JsonSchema,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", parse_err_ty = String, parse_err_fn = unknown_outcome)]
pub enum HistoryOutcome {
    /// An attempt in progress; derived from the saga's row, not stored.
    Started,
    /// The attempt succeeded.
    Done,
    /// The first children of the step were started.
    Opened,
    /// The attempt failed and is repeated.
    Retry,
    /// Nothing was attempted; the work was snoozed.
    Snoozed,
    /// The step failed for good.
    Failed,
    /// The process vanished or was too slow, and another one took over.
    Lost,
    /// Dead-lettered because the engine can't continue: the stored data can't be read, no process knows the definition
    /// or step, or the step keeps crashing its process.
    DeadLettered,
    /// Out of attempts: the saga compensates or is dead.
    Exhausted,
    /// The saga was cancelled.
    Cancelled,
    /// The deadline passed.
    DeadlinePassed,
    /// An operator retried the dead saga.
    Retried,
    /// A dead saga was given up by an operator or because its dead job expired.
    Discarded,
    /// Something that a newer version of the engine has recorded, and that this one has no name for.
    Unknown,
}

impl HistoryOutcome {
    /// All outcomes, in the order of their declaration.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The name under which it is stored.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Reads a stored name; [`HistoryOutcome::Unknown`] for one that a newer version has stored.
    pub(crate) fn read(name: &str) -> Self {
        name.parse().unwrap_or(Self::Unknown)
    }
}

fn unknown_outcome(text: &str) -> String {
    format!("`{text}` is not an outcome")
}

/// Which sagas to list; every field narrows the list.
#[derive(Clone, Debug, Default)]
pub struct SagaFilter {
    /// Only sagas of this definition.
    pub definition: Option<String>,
    /// Only sagas in this status.
    pub status: Option<Status>,
    /// Only the saga with this business key.
    pub business_key: Option<String>,
    /// Only sagas started after this time.
    pub created_after: Option<DateTime<Utc>>,
    /// Only sagas started before this time.
    pub created_before: Option<DateTime<Utc>>,
    /// Only the children of this saga.
    pub parent: Option<SagaId>,
    /// Only this topmost saga and its descendants.
    pub root: Option<SagaId>,
    /// Only unfinished sagas that have not moved for longer than this: no step was done, failed for good or undone, and
    /// no operator acted. They may have been tried again and again. One that sleeps, or waits for a signal, is not
    /// stuck until its time is over, and one that waits for its children is not.
    pub stuck_for: Option<Duration>,
}

impl SagaFilter {
    /// Whether the list is one of all sagas, of a definition or of a time. These are sorted by the time of the start,
    /// and an index leads to them.
    pub(crate) fn is_by_time(&self) -> bool {
        let is_by_start =
            self.definition.is_some() || self.created_after.is_some() || self.created_before.is_some();
        is_by_start && self.business_key.is_none()
    }

    /// Whether the list may have to look at many sagas before a page is full. An index leads to those of each condition
    /// alone, but for the statuses that many have and for those that have not moved, and to those of a definition and a
    /// time.
    pub fn may_scan(&self) -> bool {
        let is_common = |status| matches!(status, Status::Running | Status::Completed);
        let conditions = [
            self.is_by_time(),
            self.status.is_some(),
            self.business_key.is_some(),
            self.stuck_for.is_some(),
            self.parent.is_some(),
            self.root.is_some(),
        ];
        let is_among_unfinished = self.status.is_some_and(is_common) || self.stuck_for.is_some();
        is_among_unfinished || conditions.into_iter().filter(|&is_set| is_set).count() > 1
    }
}

/// How many sagas of a definition are in a status.
#[derive(Clone, Debug, Serialize)]
pub struct StatusCount {
    /// The definition's name.
    pub definition: String,
    /// The status that these sagas have.
    pub status: Status,
    /// The number of sagas.
    pub count: i64,
}

/// How many sagas wait for something besides their due time.
#[derive(Clone, Debug, PartialEq)]
pub struct WaitingCount {
    /// What they wait for: see [`SagaView::waits_for`]. Those that wait for children of which one waits for a version
    /// are counted again, as `child_version`.
    pub waits_for: String,
    /// The number of sagas.
    pub sagas: i64,
    /// For how long the oldest of them has been waiting; `None` for `version`, `lock` and `child_version`.
    pub oldest: Option<Duration>,
}

/// The status in which a saga ended or died.
#[derive(Clone, Debug, PartialEq)]
pub struct FinalStatus {
    /// `Completed`, `Compensated` or `Dead`.
    pub status: Status,
    /// Why the saga compensated, if it did.
    pub cause: Option<Cause>,
    /// What the saga gave, if it completed and its definition gives a result; see
    /// [`SagaName::result`](crate::SagaName::result).
    pub result: Option<Value>,
}
