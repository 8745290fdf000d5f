//! The JSON of dead jobs.

use chrono::{DateTime, Utc};
use engine::DeadJobFilter;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::request_body::{DeadJobRequest, RefusedDeadJobRequest};
use crate::{
    extract::{StrictObject, Timestamp},
    http::documented_enum::documented_enum,
    resources::{
        bulk_plan::{BulkPlan, default_dry_run, default_limit},
        page::list,
        workflows::{StepDirection, StepOutcome},
    },
};

/// A workflow that is out of attempts and waits for a person, with its input.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadJob {
    #[serde(flatten)]
    pub(crate) dead_job: ListedDeadJob,
    /// The workflow's input.
    pub(crate) payload: Value,
}

/// A workflow that is out of attempts and waits for a person. Its input is in `/api/dead-jobs/{dead_job_id}`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ListedDeadJob {
    /// A workflow that dies again gets a new dead job.
    pub(crate) dead_job_id: Uuid,
    pub(crate) workflow_id: Uuid,
    pub(crate) definition: String,
    pub(crate) queue: String,
    /// The step at which the workflow died.
    pub(crate) step: String,
    /// The side of the step.
    #[schema(value_type = StepDirection)]
    pub(crate) direction: engine::Direction,
    /// The number of attempts.
    pub(crate) attempts: u32,
    /// The last error.
    pub(crate) error: String,
    /// Every error of this step and direction, oldest first.
    pub(crate) errors: Vec<DeadJobError>,
    pub(crate) first_failed_at: DateTime<Utc>,
    pub(crate) died_at: DateTime<Utc>,
    /// When the dead job expires, or its record is archived once it is resolved; `null` for never, as for workflows
    /// that died in an undo.
    pub(crate) expires_at: Option<DateTime<Utc>>,
    /// What became of it; `null` while it is unresolved.
    #[schema(value_type = Option<DeadJobResolution>)]
    pub(crate) resolution: Option<engine::DeadJobResolution>,
    pub(crate) resolved_by: Option<String>,
    pub(crate) resolved_reason: Option<String>,
    pub(crate) resolved_at: Option<DateTime<Utc>>,
    /// What an operator asked for and a process that has the workflow's code has yet to do; `null` if there is nothing.
    pub(crate) requested: Option<DeadJobRequest>,
    /// The last request, if it was refused when it was to be done. A new request replaces it.
    pub(crate) request_refused: Option<RefusedDeadJobRequest>,
}

documented_enum!(
    DeadJobResolution,
    "What became of a dead job: it was `retried` or `discarded`, or its workflow was `cancelled` or compensates because its \
     deadline has passed (`deadline_passed`). More may be added.",
    engine::DeadJobResolution::ALL
);

list!(DeadJobList of ListedDeadJob, "A page of dead jobs, newest first.");

/// One failed attempt.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadJobError {
    /// The number of the attempt, from one.
    pub(crate) attempt: u32,
    /// When the attempt ended.
    pub(crate) at: DateTime<Utc>,
    /// The outcome, as in the history of the workflow.
    #[schema(value_type = StepOutcome)]
    pub(crate) outcome: engine::HistoryOutcome,
    /// The error with its causes, outermost first.
    pub(crate) error: Vec<String>,
}

/// Why a dead job is retried.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadJobRetry {
    /// For the audit.
    #[schema(format = "reason")]
    pub(crate) reason: Option<String>,
}

/// Why a dead job is discarded.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadJobDiscard {
    /// For the audit.
    #[schema(min_length = 1, format = "reason", example = "the customer was called")]
    pub(crate) reason: String,
    /// Discards it even if the workflow died in an undo, and leaves what is not undone as it is: you have taken care of
    /// it.
    #[serde(default)]
    pub(crate) force: bool,
}

/// Which dead jobs are retried, and why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadJobsRetry {
    /// Which dead jobs; `{}` for all.
    #[schema(value_type = DeadJobSelection)]
    pub(crate) filter: StrictObject<DeadJobSelection>,
    /// How many at most, oldest first; fewer if they take longer than ten seconds.
    #[serde(default = "default_limit")]
    #[schema(minimum = 1, maximum = 1000, default = 100)]
    pub(crate) limit: u32,
    /// Only says what would be done and changes nothing, unless this is `false`.
    #[serde(default = "default_dry_run")]
    #[schema(default = true)]
    pub(crate) dry_run: bool,
    /// The `plan_token` of a dry run: with `"dry_run": false` the plan is carried out as it was shown, or, if it would do
    /// something else now, nothing is done (409 `plan-changed`). Dead jobs that died after the plan was made are not in it and
    /// don't change it.
    #[schema(pattern = "^[A-Za-z0-9_-]{32}$")]
    pub(crate) plan_token: Option<String>,
    /// For the audit.
    #[schema(format = "reason")]
    pub(crate) reason: Option<String>,
}

/// A selection of dead jobs; every field narrows it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadJobSelection {
    /// Only dead jobs of this definition.
    #[schema(example = "deliver-notification", format = "searchable")]
    pub(crate) definition: Option<String>,
    /// Only dead jobs that died at this step.
    #[schema(format = "searchable")]
    pub(crate) step: Option<String>,
    /// Only dead jobs whose last error contains this text.
    #[schema(max_length = 200, format = "searchable")]
    pub(crate) error_contains: Option<String>,
    /// Only dead jobs that died before this time.
    #[schema(value_type = Option<DateTime<Utc>>)]
    pub(crate) died_before: Option<Timestamp>,
    /// Only dead jobs that died after this time.
    #[schema(value_type = Option<DateTime<Utc>>)]
    pub(crate) died_after: Option<Timestamp>,
}

/// Which dead jobs are discarded, and why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadJobsDiscard {
    /// Which dead jobs; `{}` for all.
    #[schema(value_type = DeadJobSelection)]
    pub(crate) filter: StrictObject<DeadJobSelection>,
    /// How many at most, oldest first; fewer if they take longer than ten seconds.
    #[serde(default = "default_limit")]
    #[schema(minimum = 1, maximum = 1000, default = 100)]
    pub(crate) limit: u32,
    /// Only says what would be done and changes nothing, unless this is `false`.
    #[serde(default = "default_dry_run")]
    #[schema(default = true)]
    pub(crate) dry_run: bool,
    /// The `plan_token` of a dry run: with `"dry_run": false` the plan is carried out as it was shown, or, if it would do
    /// something else now, nothing is done (409 `plan-changed`). Dead jobs that died after the plan was made are not in it and
    /// don't change it.
    #[schema(pattern = "^[A-Za-z0-9_-]{32}$")]
    pub(crate) plan_token: Option<String>,
    /// For the audit.
    #[schema(min_length = 1, format = "reason", example = "the customers were called")]
    pub(crate) reason: String,
    /// Discards also those whose workflows died in an undo, and leaves what is not undone as it is; otherwise they are
    /// skipped.
    #[serde(default)]
    pub(crate) force: bool,
}

/// A dead job that was not acted on, and why.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UnresolvedDeadJob {
    pub(crate) dead_job_id: Uuid,
    pub(crate) reason: String,
}

/// The result of discarding many dead jobs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadJobsDiscardResult {
    pub(crate) dry_run: bool,
    /// How many matched the filter before.
    pub(crate) matched: i64,
    /// How many match it now, including those that were skipped or failed: send the request again for the rest.
    pub(crate) remaining: i64,
    /// The discarded ones, oldest first; none in a dry run.
    pub(crate) discarded: Vec<Uuid>,
    /// Those of them whose workflows compensate now.
    pub(crate) compensating: Vec<Uuid>,
    /// Those that a process of another version is asked to discard; they remain until it has.
    pub(crate) requested: Vec<Uuid>,
    /// Those whose workflows died in an undo, and which were skipped without `force`, and those for which there was no
    /// time left.
    pub(crate) skipped: Vec<UnresolvedDeadJob>,
    /// Those that could not be discarded.
    pub(crate) failed: Vec<UnresolvedDeadJob>,
    /// What would be done; `null` once it is done.
    pub(crate) plan: Option<BulkPlan>,
}

/// The result of retrying many dead jobs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadJobsRetryResult {
    pub(crate) dry_run: bool,
    /// How many matched the filter before.
    pub(crate) matched: i64,
    /// How many match it now, including those that died again or failed: send the request again for the rest.
    pub(crate) remaining: i64,
    /// The retried ones, oldest first; none in a dry run.
    pub(crate) retried: Vec<Uuid>,
    /// Those that a process of another version is asked to retry; they remain until it has.
    pub(crate) requested: Vec<Uuid>,
    /// Those for which there was no time left.
    pub(crate) skipped: Vec<UnresolvedDeadJob>,
    /// Those that could not be retried.
    pub(crate) failed: Vec<UnresolvedDeadJob>,
    /// What would be done; `null` once it is done.
    pub(crate) plan: Option<BulkPlan>,
}

/// A dead job that has been archived, with the workflow's input.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ArchivedDeadJob {
    #[serde(flatten)]
    pub(crate) archived: ListedArchivedDeadJob,
    /// The workflow's input.
    pub(crate) payload: Value,
}

/// A dead job that has been archived. The workflow's input is in `/api/dead-jobs/archive/{dead_job_id}`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ListedArchivedDeadJob {
    #[serde(flatten)]
    pub(crate) dead_job: ListedDeadJob,
    pub(crate) archived_at: DateTime<Utc>,
    pub(crate) why: ArchiveReason,
}

/// Why a dead job was archived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ArchiveReason {
    /// It was resolved.
    Resolved,
    /// It was unresolved: its workflow then compensated if it still could, or else ended as it was.
    Expired,
}

list!(ArchivedDeadJobList of ListedArchivedDeadJob, "A page of archived dead jobs, those that died last first.");

/// The number of dead jobs, by step and by error.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadJobSummary {
    /// The number that match the filter.
    pub(crate) count: i64,
    /// By definition, step and direction, the largest number first.
    pub(crate) by_kind: Vec<DeadJobKindCount>,
    /// By last error, the largest number first; the hundred most common errors.
    pub(crate) by_error: Vec<DeadJobErrorCount>,
}

/// The number of dead jobs at one step.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadJobKindCount {
    pub(crate) definition: String,
    pub(crate) step: String,
    /// The side of the step.
    #[schema(value_type = StepDirection)]
    pub(crate) direction: engine::Direction,
    pub(crate) count: i64,
    pub(crate) oldest_died_at: DateTime<Utc>,
    pub(crate) newest_died_at: DateTime<Utc>,
}

/// The number of dead jobs with the same last error.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadJobErrorCount {
    pub(crate) error: String,
    pub(crate) count: i64,
    pub(crate) oldest_died_at: DateTime<Utc>,
    pub(crate) newest_died_at: DateTime<Utc>,
}

impl From<(engine::ArchivedDeadJob, Value)> for ArchivedDeadJob {
    fn from((archived, payload): (engine::ArchivedDeadJob, Value)) -> Self {
        Self { archived: archived.into(), payload }
    }
}

impl From<engine::ArchivedDeadJob> for ListedArchivedDeadJob {
    fn from(archived: engine::ArchivedDeadJob) -> Self {
        let why = match archived.dead_job.resolution {
            Some(_) => ArchiveReason::Resolved,
            None => ArchiveReason::Expired,
        };
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
                direction: kind.direction,
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

impl From<(engine::DeadJob, Value)> for DeadJob {
    fn from((job, payload): (engine::DeadJob, Value)) -> Self {
        Self { dead_job: job.into(), payload }
    }
}

impl From<engine::DeadJob> for ListedDeadJob {
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
            direction: job.direction,
            attempts: job.attempts,
            error: job.error,
            errors: errors.collect(),
            first_failed_at: job.first_failed_at,
            died_at: job.died_at,
            expires_at: job.expires_at,
            resolution: job.resolution,
            resolved_by: job.resolved_by,
            resolved_reason: job.resolved_reason,
            resolved_at: job.resolved_at,
            requested: job.requested.map(Into::into),
            request_refused: job.refused_request.map(Into::into),
        }
    }
}

impl UnresolvedDeadJob {
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
