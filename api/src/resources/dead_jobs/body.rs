//! The JSON of dead jobs.

use chrono::{DateTime, Utc};
use engine::DeadJobFilter;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    extract::{StrictObject, Timestamp},
    resources::page::list,
};

/// How many dead jobs one request acts on unless it says so.
const DEFAULT_BULK: u32 = 100;

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
    /// When it expires if nobody acts, or its record goes to the archive; `null` for never, as for what died in an undo.
    pub(crate) expires_at: Option<DateTime<Utc>>,
    /// `retried`, `discarded` or `cancelled`, once somebody has acted; `deadline_passed` when its workflow's deadline has
    /// had it unwind.
    pub(crate) resolution: Option<String>,
    pub(crate) resolved_by: Option<String>,
    pub(crate) resolved_reason: Option<String>,
    pub(crate) resolved_at: Option<DateTime<Utc>>,
}

list!(DeadJobList of DeadJob, "A page of dead jobs, newest first.");

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

/// Why a dead job is retried.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadJobRetry {
    /// For the audit.
    #[schema(max_length = 500, format = "any-line")]
    pub(crate) reason: Option<String>,
}

/// Why a dead job is given up.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadJobDiscard {
    /// For the audit.
    #[schema(min_length = 1, max_length = 500, format = "any-line", example = "the customer was called")]
    pub(crate) reason: String,
    /// Also when it died while it unwound, so that what is not undone is left standing: somebody has seen to it by hand.
    #[serde(default)]
    pub(crate) force: bool,
}

/// Which dead jobs are retried, and why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadJobsRetry {
    /// Which ones; `{}` for all.
    #[schema(value_type = DeadJobSelection)]
    pub(crate) filter: StrictObject<DeadJobSelection>,
    /// At most this many, oldest first; fewer where that takes longer than ten seconds.
    #[serde(default = "default_limit")]
    #[schema(minimum = 1, maximum = 1000, default = 100)]
    pub(crate) limit: u32,
    /// Only counts them.
    #[serde(default)]
    pub(crate) dry_run: bool,
    /// For the audit.
    #[schema(max_length = 500, format = "any-line")]
    pub(crate) reason: Option<String>,
}

fn default_limit() -> u32 {
    DEFAULT_BULK
}

/// Which dead jobs are meant; every field narrows.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadJobSelection {
    /// Of this definition.
    #[schema(example = "deliver-notification", format = "searchable")]
    pub(crate) definition: Option<String>,
    /// At this step.
    #[schema(format = "searchable")]
    pub(crate) step: Option<String>,
    /// Whose last error contains this text.
    #[schema(max_length = 200, format = "searchable")]
    pub(crate) error_contains: Option<String>,
    /// Parked before this time.
    #[schema(value_type = Option<DateTime<Utc>>)]
    pub(crate) died_before: Option<Timestamp>,
    /// Parked after this time.
    #[schema(value_type = Option<DateTime<Utc>>)]
    pub(crate) died_after: Option<Timestamp>,
}

/// Which dead jobs are given up, and why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadJobsDiscard {
    /// Which ones; `{}` for all.
    #[schema(value_type = DeadJobSelection)]
    pub(crate) filter: StrictObject<DeadJobSelection>,
    /// At most this many, oldest first; fewer where that takes longer than ten seconds.
    #[serde(default = "default_limit")]
    #[schema(minimum = 1, maximum = 1000, default = 100)]
    pub(crate) limit: u32,
    /// Only counts them.
    #[serde(default)]
    pub(crate) dry_run: bool,
    /// For the audit.
    #[schema(min_length = 1, max_length = 500, format = "any-line", example = "the customers were called")]
    pub(crate) reason: String,
    /// Also those that died while they unwound, so that what is not undone is left standing; else they are skipped.
    #[serde(default)]
    pub(crate) force: bool,
}

/// A dead job that was not acted on, and why.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadJobLeft {
    pub(crate) dead_job_id: Uuid,
    pub(crate) reason: String,
}

/// What was, or would be, given up.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadJobsDiscarded {
    pub(crate) dry_run: bool,
    /// How many matched the filter when it was asked.
    pub(crate) matched: i64,
    /// How many match it now, those skipped and failed among them: ask again for the others.
    pub(crate) remaining: i64,
    /// Those that were given up, oldest first; none on a dry run.
    pub(crate) discarded: Vec<Uuid>,
    /// Those of them whose workflows unwind now, as they still could.
    pub(crate) unwinding: Vec<Uuid>,
    /// Those that died while they unwound, and were left because nobody insisted (`force`).
    pub(crate) skipped: Vec<DeadJobLeft>,
    /// Those that could not be given up; the others were, all the same.
    pub(crate) failed: Vec<DeadJobLeft>,
}

/// What was, or would be, retried.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadJobsRetried {
    pub(crate) dry_run: bool,
    /// How many matched the filter when it was asked.
    pub(crate) matched: i64,
    /// How many match it now: ask again for the next ones until it is zero. What died again is among them, and what failed.
    pub(crate) remaining: i64,
    /// Those that were retried, oldest first; none on a dry run.
    pub(crate) retried: Vec<Uuid>,
    /// Those that could not be retried; the others were, all the same.
    pub(crate) failed: Vec<DeadJobLeft>,
}

/// A dead job whose time to live is over.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ArchivedDeadJob {
    #[serde(flatten)]
    pub(crate) dead_job: DeadJob,
    pub(crate) archived_at: DateTime<Utc>,
    /// `expired` when nobody had acted on it, and its workflow unwound if it still could, or else ended as it was;
    /// `resolved` when somebody had acted.
    pub(crate) why: &'static str,
}

list!(ArchivedDeadJobList of ArchivedDeadJob, "A page of archived dead jobs, the last parked first.");

/// How many dead jobs there are, by where they died and by error.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadJobSummary {
    /// How many match the filter.
    pub(crate) count: i64,
    /// By where they died, the most first.
    pub(crate) by_kind: Vec<DeadJobKindCount>,
    /// By their last error, the most first; the hundred most common ones.
    pub(crate) by_error: Vec<DeadJobErrorCount>,
}

/// How many died at one place.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadJobKindCount {
    pub(crate) definition: String,
    pub(crate) step: String,
    /// `action` or `undo`.
    pub(crate) direction: &'static str,
    pub(crate) count: i64,
    pub(crate) oldest_died_at: DateTime<Utc>,
    pub(crate) newest_died_at: DateTime<Utc>,
}

/// How many have the same last error.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadJobErrorCount {
    pub(crate) error: String,
    pub(crate) count: i64,
    pub(crate) oldest_died_at: DateTime<Utc>,
    pub(crate) newest_died_at: DateTime<Utc>,
}

impl From<engine::ArchivedDeadJob> for ArchivedDeadJob {
    fn from(archived: engine::ArchivedDeadJob) -> Self {
        let why = if archived.dead_job.resolution.is_some() { "resolved" } else { "expired" };
        Self { dead_job: archived.dead_job.into(), archived_at: archived.archived_at, why }
    }
}

impl From<engine::DeadJobSummary> for DeadJobSummary {
    fn from(summary: engine::DeadJobSummary) -> Self {
        let by_kind: Vec<_> = summary
            .by_kind
            .into_iter()
            .map(|kind| DeadJobKindCount {
                definition: kind.definition,
                step: kind.step,
                direction: kind.direction.name(),
                count: kind.count,
                oldest_died_at: kind.oldest_died_at,
                newest_died_at: kind.newest_died_at,
            })
            .collect();
        let by_error = summary.by_error.into_iter().map(|error| DeadJobErrorCount {
            error: error.error,
            count: error.count,
            oldest_died_at: error.oldest_died_at,
            newest_died_at: error.newest_died_at,
        });
        Self { count: by_kind.iter().map(|kind| kind.count).sum(), by_kind, by_error: by_error.collect() }
    }
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

impl DeadJobLeft {
    pub(super) fn each(left: Vec<(engine::DeadJobId, String)>) -> Vec<Self> {
        left.into_iter().map(|(id, reason)| Self { dead_job_id: id.0, reason }).collect()
    }
}

impl From<DeadJobSelection> for DeadJobFilter {
    fn from(selection: DeadJobSelection) -> Self {
        Self {
            definition: selection.definition,
            step: selection.step,
            error_contains: selection.error_contains,
            died_before: selection.died_before.map(Into::into),
            died_after: selection.died_after.map(Into::into),
            with_resolved: false,
        }
    }
}

/// The example of the document.
pub(super) fn example() -> Value {
    json!({
        "dead_job_id": "0199f3a1-0000-7000-8000-00000000dead",
        "workflow_id": "0199f3a0-2222-7222-8333-444455556667",
        "definition": "deliver-notification",
        "queue": "notifications",
        "step": "send-mail",
        "direction": "action",
        "attempts": 8,
        "error": "the mail server does not answer",
        "errors": [{
            "attempt": 1,
            "at": "2026-11-22T10:00:00Z",
            "outcome": "retry",
            "error": ["the mail server does not answer", "connection refused"]
        }],
        "payload": {"to": "a@example.com", "subject": "Your order is confirmed"},
        "first_failed_at": "2026-11-22T10:00:00Z",
        "died_at": "2026-11-22T10:05:00Z",
        "expires_at": null,
        "resolution": null,
        "resolved_by": null,
        "resolved_reason": null,
        "resolved_at": null
    })
}

/// The example of an archived one.
pub(super) fn archived_example() -> Value {
    let mut job = example();
    job["expires_at"] = json!("2026-12-22T10:05:00Z");
    job["archived_at"] = json!("2026-12-22T10:05:20Z");
    job["why"] = json!("expired");
    job
}
