//! The JSON of dead jobs.

use chrono::{DateTime, Utc};
use engine::DeadJobFilter;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::request::Object;

/// A workflow that was parked for a person.
#[derive(Debug, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the JSON names its id so")]
pub(crate) struct DeadJob {
    /// A workflow that dies again gets a new one.
    pub(crate) dead_job_id: Uuid,
    pub(crate) workflow_id: Uuid,
    pub(crate) definition: String,
    pub(crate) queue: String,
    /// The step it died at.
    pub(crate) step: String,
    /// `action` or `undo`.
    pub(crate) direction: &'static str,
    /// How many attempts the step had.
    pub(crate) attempts: u32,
    /// The last error.
    pub(crate) error: String,
    /// Every error of this step and direction, oldest first.
    pub(crate) errors: Vec<DeadJobError>,
    /// The workflow's input.
    pub(crate) payload: Value,
    pub(crate) first_failed_at: DateTime<Utc>,
    pub(crate) died_at: DateTime<Utc>,
    /// When it is archived if nobody acts; `null` for never.
    pub(crate) expires_at: Option<DateTime<Utc>>,
    /// `retried` or `discarded`, once somebody has acted.
    pub(crate) resolution: Option<String>,
    pub(crate) resolved_by: Option<String>,
    pub(crate) resolved_reason: Option<String>,
    pub(crate) resolved_at: Option<DateTime<Utc>>,
}

/// One failed attempt.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadJobError {
    /// From one.
    pub(crate) attempt: u32,
    /// When it ended.
    pub(crate) at: DateTime<Utc>,
    /// As in the workflow's history.
    pub(crate) outcome: String,
    /// The error with its causes, outermost first.
    pub(crate) error: Vec<String>,
}

/// A page of dead jobs, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadJobList {
    pub(crate) items: Vec<DeadJob>,
    /// Give it as `cursor` to get the next page; `null` on the last one.
    pub(crate) next_cursor: Option<String>,
}

/// Why a dead job is retried.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadJobRetry {
    /// For the audit.
    #[schema(max_length = 500, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$")]
    pub(crate) reason: Option<String>,
}

/// Why a dead job is given up.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadJobDiscard {
    /// For the audit.
    #[schema(
        min_length = 1,
        max_length = 500,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$",
        example = "the customer was called"
    )]
    pub(crate) reason: String,
}

/// Which dead jobs are retried, and why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadJobsRetry {
    /// Which ones; `{}` for all.
    #[schema(value_type = DeadJobSelection)]
    pub(crate) filter: Object<DeadJobSelection>,
    /// At most this many, oldest first.
    #[serde(default = "most")]
    #[schema(minimum = 1, maximum = 1000, default = 1000)]
    pub(crate) limit: u32,
    /// Only counts them.
    #[serde(default)]
    pub(crate) dry_run: bool,
    /// For the audit.
    #[schema(max_length = 500, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$")]
    pub(crate) reason: Option<String>,
}

fn most() -> u32 {
    super::retry_many::MOST
}

/// Which dead jobs are meant; every field narrows.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadJobSelection {
    /// Of this definition.
    #[schema(example = "deliver-notification")]
    pub(crate) definition: Option<String>,
    /// At this step.
    pub(crate) step: Option<String>,
    /// Whose last error contains this text.
    #[schema(max_length = 200)]
    pub(crate) error_contains: Option<String>,
    /// Parked before this time.
    pub(crate) died_before: Option<DateTime<Utc>>,
    /// Parked after this time.
    pub(crate) died_after: Option<DateTime<Utc>>,
}

/// What was, or would be, retried.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadJobsRetried {
    pub(crate) dry_run: bool,
    /// How many matched the filter when it was asked.
    pub(crate) matched: i64,
    /// Those that were retried, oldest first; none on a dry run.
    pub(crate) retried: Vec<Uuid>,
}

impl From<engine::DeadJob> for DeadJob {
    fn from(job: engine::DeadJob) -> Self {
        let errors = job.errors.into_iter().map(|error| {
            let engine::DeadJobErrorEntry { attempt, at, outcome, error } = error;
            DeadJobError { attempt, at, outcome, error }
        });
        Self {
            dead_job_id: job.dead_job_id.0,
            workflow_id: job.saga_id.0,
            definition: job.definition,
            queue: job.queue,
            step: job.step,
            direction: job.direction.name(),
            attempts: job.attempts,
            error: job.error,
            errors: errors.collect(),
            payload: job.payload,
            first_failed_at: job.first_failed_at,
            died_at: job.died_at,
            expires_at: job.expires_at,
            resolution: job.resolution,
            resolved_by: job.resolved_by,
            resolved_reason: job.resolved_reason,
            resolved_at: job.resolved_at,
        }
    }
}

impl From<DeadJobSelection> for DeadJobFilter {
    fn from(selection: DeadJobSelection) -> Self {
        Self {
            definition: selection.definition,
            step: selection.step,
            error_contains: selection.error_contains,
            died_before: selection.died_before,
            died_after: selection.died_after,
            with_resolved: false,
        }
    }
}
