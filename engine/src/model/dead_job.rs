//! Dead jobs: sagas that wait for an operator, how long they wait, and the filters and summaries of their lists.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use strum::VariantArray;

use crate::model::{
    dead_job_request::{DeadJobRequest, RefusedRequest},
    ids::{DeadJobId, SagaId},
    status::Direction,
    views::HistoryOutcome,
};

/// A saga that was just dead-lettered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLettered {
    /// The new dead job.
    pub dead_job_id: DeadJobId,
    /// The id of the saga.
    pub saga_id: SagaId,
    /// The definition's name.
    pub definition: String,
    /// The queue of the saga.
    pub queue: String,
    /// The step at which the saga died.
    pub step: String,
    /// Whether the step's action or its undo failed.
    pub direction: Direction,
    /// How many attempts the step had.
    pub attempts: u32,
    /// The last error, one sentence.
    pub error: String,
}

/// How long dead jobs wait for an operator; `None` for no limit.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeadJobTtls {
    pub(crate) default: Option<Duration>,
    pub(crate) by_definition: BTreeMap<String, Option<Duration>>,
}

/// A saga that waits for an operator, or one on which an operator has acted; without the saga's input.
#[derive(Clone, Debug, Serialize)]
pub struct DeadJob {
    /// The id of the dead job. A saga that dies again gets a new dead job.
    pub dead_job_id: DeadJobId,
    /// The id of the saga.
    pub saga_id: SagaId,
    /// The definition's name.
    pub definition: String,
    /// The queue of the saga.
    pub queue: String,
    /// The step at which the saga died.
    pub step: String,
    /// Whether the step's action or its undo failed.
    pub direction: Direction,
    /// How many attempts the step had.
    pub attempts: u32,
    /// The last error, one sentence.
    pub error: String,
    /// Every error of this side of the step, oldest first.
    pub errors: Vec<DeadJobErrorEntry>,
    /// When this step first failed.
    pub first_failed_at: DateTime<Utc>,
    /// When the saga died.
    pub died_at: DateTime<Utc>,
    /// When the dead job expires if no operator acts, or when its record is archived if one did; `None` for never.
    pub expires_at: Option<DateTime<Utc>>,
    /// What became of the dead job; `None` while it is open.
    pub resolution: Option<DeadJobResolution>,
    /// The operator who acted.
    pub resolved_by: Option<String>,
    /// The reason that the operator gave.
    pub resolved_reason: Option<String>,
    /// When the operator acted.
    pub resolved_at: Option<DateTime<Utc>>,
    /// What an operator asked for and a process that has the saga's code has yet to carry out; `None` once the dead job
    /// is resolved, or the request was refused.
    pub requested: Option<DeadJobRequest>,
    /// The last request, if it was refused when it was to be carried out.
    pub refused_request: Option<RefusedRequest>,
}

/// What became of a dead job.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", parse_err_ty = String, parse_err_fn = unknown_resolution)]
pub enum DeadJobResolution {
    /// An operator retried it.
    Retried,
    /// An operator discarded it.
    Discarded,
    /// Its saga was cancelled.
    Cancelled,
    /// Its saga compensates because its deadline passed.
    DeadlinePassed,
}

impl DeadJobResolution {
    /// All resolutions, in the order of their declaration.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The name under which it is stored.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

fn unknown_resolution(text: &str) -> String {
    format!("`{text}` is not a resolution of a dead job")
}

/// A dead job whose time to live is over.
#[derive(Clone, Debug, Serialize)]
pub struct ArchivedDeadJob {
    /// The dead job as it was archived. If it has no resolution, it expired.
    pub dead_job: DeadJob,
    /// When it was archived.
    pub archived_at: DateTime<Utc>,
}

/// Counts of dead jobs.
#[derive(Clone, Debug, Serialize)]
pub struct DeadJobSummary {
    /// Counts by the step at which the sagas died, highest first.
    pub by_kind: Vec<DeadJobKindCount>,
    /// Counts by error, highest first; at most a hundred.
    pub by_error: Vec<DeadJobErrorCount>,
}

/// How many sagas died at one side of one step.
#[derive(Clone, Debug, Serialize)]
pub struct DeadJobKindCount {
    /// The definition's name.
    pub definition: String,
    /// The step at which they died.
    pub step: String,
    /// Whether the step's action or its undo failed.
    pub direction: Direction,
    /// The number of dead jobs.
    pub count: i64,
    /// When the first of these sagas died.
    pub oldest_died_at: DateTime<Utc>,
    /// When the last of these sagas died.
    pub newest_died_at: DateTime<Utc>,
}

/// How many dead jobs have the same last error.
#[derive(Clone, Debug, Serialize)]
pub struct DeadJobErrorCount {
    /// The last error, one sentence.
    pub error: String,
    /// The number of dead jobs.
    pub count: i64,
    /// When the first of these sagas died.
    pub oldest_died_at: DateTime<Utc>,
    /// When the last of these sagas died.
    pub newest_died_at: DateTime<Utc>,
}

/// One failed attempt of a dead job's step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeadJobErrorEntry {
    /// The number of the attempt, from one.
    pub attempt: u32,
    /// When the attempt ended.
    pub at: DateTime<Utc>,
    /// The outcome, as in the history.
    pub outcome: HistoryOutcome,
    /// The error with its causes, outermost first.
    pub error: Vec<String>,
}

/// Which dead jobs to list; every field narrows the list. Resolved ones are left out unless `with_resolved` is set.
#[derive(Clone, Debug, Default)]
pub struct DeadJobFilter {
    /// Only dead jobs of this definition.
    pub definition: Option<String>,
    /// Only dead jobs at this step.
    pub step: Option<String>,
    /// Only dead jobs whose last error contains this text.
    pub error_contains: Option<String>,
    /// Only sagas that died before this time.
    pub died_before: Option<DateTime<Utc>>,
    /// Only sagas that died after this time.
    pub died_after: Option<DateTime<Utc>>,
    /// Whether to include dead jobs on which an operator has acted.
    pub with_resolved: bool,
}

impl DeadJobFilter {
    /// Whether the list may have to look at many dead jobs before a page is full. An index leads to those of a
    /// definition or a step.
    pub fn may_scan(&self) -> bool {
        let is_by_time = self.died_before.is_some() || self.died_after.is_some();
        self.error_contains.is_some() || is_by_time || self.definition.is_some() && self.step.is_some()
    }
}
