//! Dead jobs: sagas that were parked for a person, how long they wait, and how they are listed.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{
    ids::{DeadJobId, SagaId},
    status::Direction,
};

/// A saga that was parked for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLettered {
    /// Its dead job.
    pub dead_job_id: DeadJobId,
    /// The saga.
    pub saga_id: SagaId,
    /// The definition's name.
    pub definition: String,
    /// Its queue.
    pub queue: String,
    /// The step that it stands at.
    pub step: String,
    /// The side of the step.
    pub direction: Direction,
    /// How many attempts the step had.
    pub attempts: u32,
    /// The last error, one sentence.
    pub error: String,
}

/// How long dead jobs wait for a person; `None` for ever.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeadJobTtls {
    pub(crate) default: Option<Duration>,
    pub(crate) by_definition: BTreeMap<String, Option<Duration>>,
}

/// A saga that was parked for a person.
#[derive(Clone, Debug, Serialize)]
pub struct DeadJob {
    /// Its id; a saga that dies again gets a new one.
    pub dead_job_id: DeadJobId,
    /// The saga.
    pub saga_id: SagaId,
    /// The definition's name.
    pub definition: String,
    /// Its queue.
    pub queue: String,
    /// The step it died at.
    pub step: String,
    /// The side of the step.
    pub direction: Direction,
    /// How many attempts the step had.
    pub attempts: u32,
    /// The last error, one sentence.
    pub error: String,
    /// Every error of this step and direction, oldest first.
    pub errors: Vec<DeadJobErrorEntry>,
    /// The saga's input.
    pub payload: Value,
    /// When this step first failed.
    pub first_failed_at: DateTime<Utc>,
    /// When it was parked.
    pub died_at: DateTime<Utc>,
    /// When it expires if nobody acts, or its record goes to the archive; `None` for never.
    pub expires_at: Option<DateTime<Utc>>,
    /// `retried`, `discarded` or `cancelled`, once somebody has acted; `deadline_passed` when its saga's deadline has had it
    /// compensate.
    pub resolution: Option<String>,
    /// Who acted.
    pub resolved_by: Option<String>,
    /// Why.
    pub resolved_reason: Option<String>,
    /// When.
    pub resolved_at: Option<DateTime<Utc>>,
}

/// A dead job whose time to live is over.
#[derive(Clone, Debug, Serialize)]
pub struct ArchivedDeadJob {
    /// As it was. It expired if nobody had resolved it.
    pub dead_job: DeadJob,
    /// When it was archived.
    pub archived_at: DateTime<Utc>,
}

/// How many dead jobs there are.
#[derive(Clone, Debug, Serialize)]
pub struct DeadJobSummary {
    /// By where they died, the most first.
    pub by_kind: Vec<DeadJobKindCount>,
    /// By error, the most first; a hundred at the most.
    pub by_error: Vec<DeadJobErrorCount>,
}

/// How many dead jobs died at one place.
#[derive(Clone, Debug, Serialize)]
pub struct DeadJobKindCount {
    /// The definition's name.
    pub definition: String,
    /// The step they died at.
    pub step: String,
    /// The side of the step.
    pub direction: Direction,
    /// How many.
    pub count: i64,
    /// When the first of them was parked.
    pub oldest_died_at: DateTime<Utc>,
    /// When the last of them was parked.
    pub newest_died_at: DateTime<Utc>,
}

/// How many dead jobs have the same last error.
#[derive(Clone, Debug, Serialize)]
pub struct DeadJobErrorCount {
    /// The last error, one sentence.
    pub error: String,
    /// How many.
    pub count: i64,
    /// When the first of them was parked.
    pub oldest_died_at: DateTime<Utc>,
    /// When the last of them was parked.
    pub newest_died_at: DateTime<Utc>,
}

/// One failed attempt of a dead job's step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeadJobErrorEntry {
    /// The attempt, from one.
    pub attempt: u32,
    /// When it ended.
    pub at: DateTime<Utc>,
    /// What the history calls it.
    pub outcome: String,
    /// The error with its causes, outermost first.
    pub error: Vec<String>,
}

/// Which dead jobs to list; every field narrows. Resolved ones are left out unless asked for.
#[derive(Clone, Debug, Default)]
pub struct DeadJobFilter {
    /// Of this definition.
    pub definition: Option<String>,
    /// At this step.
    pub step: Option<String>,
    /// Whose last error contains this text.
    pub error_contains: Option<String>,
    /// Parked before this.
    pub died_before: Option<DateTime<Utc>>,
    /// Parked after this.
    pub died_after: Option<DateTime<Utc>>,
    /// With those that somebody has acted on.
    pub with_resolved: bool,
}
