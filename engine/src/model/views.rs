//! What the engine tells about sagas: read models for APIs, consoles and tests.

use std::time::Duration;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::model::{
    ids::{SagaId, WorkerId},
    outcome::Cause,
    status::{Direction, Status},
};

/// One saga as it is stored.
#[derive(Clone, Debug, Serialize)]
pub struct SagaView {
    /// Its id.
    pub saga_id: SagaId,
    /// The definition's name.
    pub definition: String,
    /// The shape that the definition had when the saga began.
    pub graph_hash: String,
    /// Its queue.
    pub queue: String,
    /// Its status.
    pub status: Status,
    /// The step it stands at, or ended at.
    pub step: String,
    /// Which side of the step is next, under way, or was last.
    pub direction: Direction,
    /// What makes its start idempotent, if the caller gave one.
    pub business_key: Option<String>,
    /// The attempt under way or made last, from one; zero before the first.
    pub attempt: u32,
    /// When it can move next, or when its lease ends; `None` when it has ended.
    pub due_at: Option<DateTime<Utc>>,
    /// When it compensates if it has not passed its pivot.
    pub deadline_at: Option<DateTime<Utc>>,
    /// Who works on it now.
    pub lease_owner: Option<WorkerId>,
    /// Grows with every claim.
    pub epoch: i64,
    /// The last error, one sentence.
    pub error: Option<String>,
    /// Why it compensates or compensated.
    pub cause: Option<Cause>,
    /// A cancel that was asked for and not acted on yet.
    pub cancel_requested: bool,
    /// Its input.
    pub input: Value,
    /// When it was started.
    pub created_at: DateTime<Utc>,
    /// When it completed, was compensated, or was discarded.
    pub ended_at: Option<DateTime<Utc>>,
}

/// What happened to a saga, in order; numbered from one without gaps.
#[derive(Clone, Debug, Serialize)]
pub struct HistoryEntry {
    /// Its number.
    pub seq: i32,
    /// The step concerned.
    pub step: String,
    /// The side of the step.
    pub direction: Direction,
    /// What it came to.
    pub outcome: HistoryOutcome,
    /// The attempt, from one; zero for entries that are none.
    pub attempt: u32,
    /// When the attempt began.
    pub started_at: DateTime<Utc>,
    /// How long it took.
    pub duration_ms: i64,
    /// What it gave.
    pub output: Option<Value>,
    /// The error with its causes, outermost first; for a cancel, who and why.
    pub error: Vec<String>,
    /// What the step added to the error for programs.
    pub details: Option<Value>,
    /// The process that did it.
    pub worker: Option<WorkerId>,
    /// The epoch of its claim.
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
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", parse_err_ty = String, parse_err_fn = unknown_outcome)]
pub enum HistoryOutcome {
    /// An attempt that is under way now; read off the saga, not stored.
    Started,
    /// The attempt did it.
    Done,
    /// The attempt is to be repeated.
    Retry,
    /// Nothing was attempted; the work was snoozed.
    Snoozed,
    /// The answer was no.
    Failed,
    /// The process was gone or too slow, and another took over.
    Lost,
    /// Parked for a person: what is stored can't be read, its definition or step is unknown here, or the step keeps
    /// killing its process.
    Parked,
    /// Out of attempts: from here the saga compensates or is dead.
    Exhausted,
    /// Somebody cancelled.
    Cancelled,
    /// The deadline passed.
    DeadlinePassed,
    /// An operator retried the dead saga.
    Retried,
    /// An operator gave it up.
    Discarded,
}

impl HistoryOutcome {
    /// The stored name.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

fn unknown_outcome(text: &str) -> String {
    format!("`{text}` is no outcome")
}

/// Which sagas to list; every field narrows.
#[derive(Clone, Debug, Default)]
pub struct SagaFilter {
    /// Of this definition.
    pub definition: Option<String>,
    /// In this status.
    pub status: Option<Status>,
    /// With this business key.
    pub business_key: Option<String>,
    /// Started after this.
    pub created_after: Option<DateTime<Utc>>,
    /// Started before this.
    pub created_before: Option<DateTime<Utc>>,
    /// Unfinished, and overdue by more than this: nobody moves them.
    pub stuck_for: Option<Duration>,
}

/// A page of a list, newest first: give the last id of one page to get the next.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Only what comes after this id in the list's order.
    pub after: Option<Uuid>,
    /// At most this many, one to a thousand.
    pub limit: u32,
}

/// How many sagas of a definition are in a status.
#[derive(Clone, Debug, Serialize)]
pub struct StatusCount {
    /// The definition's name.
    pub definition: String,
    /// The status.
    pub status: Status,
    /// How many.
    pub count: i64,
}

/// How a saga came to rest.
#[derive(Clone, Debug, PartialEq)]
pub struct FinalStatus {
    /// `Completed`, `Compensated` or `Dead`.
    pub status: Status,
    /// Why it compensated, if it did.
    pub cause: Option<Cause>,
}
