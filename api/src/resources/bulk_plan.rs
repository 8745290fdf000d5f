//! Actions on many workflows or dead jobs: their bounds, their plan, and the token by which an execution names it.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Datelike, Utc};
use serde::Serialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{http::Problem, resources::workflows::StepDirection};

/// On how many one request acts by default, and at most.
const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1000;

/// How long a request may plan and act: half of the request time-out, so that the caller learns what was done.
pub(super) const TIME_LIMIT: Duration = Duration::from_secs(10);

/// The `limit` of a request that gives none.
pub(super) fn default_limit() -> u32 {
    DEFAULT_LIMIT
}

/// The `dry_run` of a request that gives none: a request for many changes nothing by accident.
pub(super) fn default_dry_run() -> bool {
    true
}

/// Checks the `limit` of a request.
///
/// # Errors
/// A 422 when it is out of bounds.
pub(super) fn check_limit(limit: u32) -> Result<(), Problem> {
    if (1..=MAX_LIMIT).contains(&limit) {
        return Ok(());
    }
    Err(Problem::field("/limit", "out-of-range", format!("must be from 1 to {MAX_LIMIT}")))
}

/// How many of a kind a plan names.
const SAMPLES: usize = 10;

/// How many bytes of the digest are in a token.
const DIGEST_BYTES: usize = 16;

/// When a plan can have been made.
const YEARS: std::ops::RangeInclusive<i32> = 2026..=9999;

/// What an action on many would do, to how many of which kind.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BulkPlan {
    /// Send it with `"dry_run": false`: then this is done, or, if the plan would be another by now, nothing (409
    /// `plan-changed`). Sent with a dry run, it asks whether the plan still holds.
    #[schema(example = "AAZJ8S7vWAB4OwpEl1sGkfJ2cXjUoXwk", pattern = "^[A-Za-z0-9_-]{32}$")]
    pub(crate) plan_token: String,
    /// How many it would act on, up to `limit`, without those that it skips.
    pub(crate) count: usize,
    /// By kind and effect, the largest number first.
    pub(crate) kinds: Vec<PlannedKind>,
}

/// What would happen to those of one kind.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlannedKind {
    pub(crate) definition: String,
    /// The step at which the workflows stand or died.
    pub(crate) step: String,
    /// The side of the step.
    #[schema(value_type = StepDirection)]
    pub(crate) direction: engine::Direction,
    pub(crate) effect: PlannedEffect,
    /// Why they would be skipped; otherwise `null`.
    pub(crate) why: Option<String>,
    pub(crate) count: usize,
    /// The ten oldest of them.
    pub(crate) samples: Vec<PlannedSample>,
}

/// One of a plan.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) struct PlannedSample {
    pub(crate) workflow_id: Uuid,
    /// The dead job; `null` where the action is on workflows.
    pub(crate) dead_job_id: Option<Uuid>,
}

/// What would happen. More may be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PlannedEffect {
    /// The dead job's workflow would go on where it died.
    Retry,
    /// The dead job's workflow would compensate.
    Compensate,
    /// The dead job's workflow would end as it is, because it is past its point of no return.
    End,
    /// The dead job's workflow would end with steps that are not undone.
    Abandon,
    /// A process that has the workflow's code would be asked to do it.
    Request,
    /// The workflow would go on with the newest graph of its definition.
    Move,
    /// It would be left as it is.
    Skip,
}

impl PlannedEffect {
    /// The byte that stands for it in a token.
    fn byte(self) -> u8 {
        match self {
            Self::Retry => b'r',
            Self::Compensate => b'c',
            Self::End => b'e',
            Self::Abandon => b'a',
            Self::Request => b'q',
            Self::Move => b'm',
            Self::Skip => b's',
        }
    }
}

/// One that a plan is about.
pub(super) struct Planned<'a> {
    pub(super) sample: PlannedSample,
    pub(super) definition: &'a str,
    pub(super) step: &'a str,
    pub(super) direction: engine::Direction,
    /// The effect, or why it would be skipped.
    pub(super) effect: Result<PlannedEffect, &'a str>,
}

impl Planned<'_> {
    fn effect(&self) -> PlannedEffect {
        self.effect.unwrap_or(PlannedEffect::Skip)
    }
}

impl BulkPlan {
    /// Sums a plan up that was made at this time, of an action that `about` names with all that it depends on.
    pub(super) fn of(about: &str, time: DateTime<Utc>, all: &[Planned<'_>]) -> Self {
        let mut kinds = BTreeMap::new();
        for one in all {
            let key = (one.definition, one.step, one.direction.name(), one.effect(), one.effect.err());
            let kind = kinds.entry(key).or_insert_with(|| PlannedKind {
                definition: one.definition.to_owned(),
                step: one.step.to_owned(),
                direction: one.direction,
                effect: one.effect(),
                why: one.effect.err().map(str::to_owned),
                count: 0,
                samples: Vec::new(),
            });
            kind.count += 1;
            if kind.samples.len() < SAMPLES {
                kind.samples.push(one.sample);
            }
        }
        let mut kinds: Vec<_> = kinds.into_values().collect();
        kinds.sort_by_key(|kind| std::cmp::Reverse(kind.count));
        let count = all.iter().filter(|one| one.effect.is_ok()).count();
        Self { plan_token: PlanToken::of(about, time, all).to_string(), count, kinds }
    }
}

/// Names a plan: when it was made, and a digest of what it would do to which.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PlanToken {
    time: DateTime<Utc>,
    digest: [u8; DIGEST_BYTES],
}

impl PlanToken {
    fn of(about: &str, time: DateTime<Utc>, all: &[Planned<'_>]) -> Self {
        let mut digest = Sha256::new();
        digest.update(about);
        for Planned { sample, .. } in all {
            digest.update(sample.dead_job_id.unwrap_or(sample.workflow_id));
        }
        digest.update(all.iter().map(|one| one.effect().byte()).collect::<Vec<_>>());
        let mut first = [0; DIGEST_BYTES];
        first.copy_from_slice(&digest.finalize()[..DIGEST_BYTES]);
        Self { time, digest: first }
    }

    /// Reads the token of a request. One that is well formed and names no plan of ours has a time at which there were none.
    ///
    /// # Errors
    /// A 422 for what is no token.
    pub(super) fn of_request(token: &str) -> Result<Self, Problem> {
        let unknown = || Problem::field("/plan_token", "invalid", "must be the `plan_token` of a dry run");
        let token = URL_SAFE_NO_PAD.decode(token).map_err(|_| unknown())?;
        let (time, digest) = token.split_first_chunk().ok_or_else(unknown)?;
        let time = DateTime::from_timestamp_micros(i64::from_be_bytes(*time));
        let time = time.filter(|time| YEARS.contains(&time.year())).unwrap_or_default();
        Ok(Self { time, digest: digest.try_into().map_err(|_| unknown())? })
    }

    /// When the plan was made.
    pub(super) fn time(&self) -> DateTime<Utc> {
        self.time
    }

    /// Whether it names a plan that would do this.
    pub(super) fn names(&self, about: &str, all: &[Planned<'_>]) -> bool {
        Self::of(about, self.time, all).digest == self.digest
    }
}

impl std::fmt::Display for PlanToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut token = self.time.timestamp_micros().to_be_bytes().to_vec();
        token.extend_from_slice(&self.digest);
        f.write_str(&URL_SAFE_NO_PAD.encode(token))
    }
}

/// The problem of an execution whose plan would do something else now.
pub(super) fn plan_changed(plan: &BulkPlan) -> Problem {
    Problem::plan_changed(serde_json::to_value(plan).unwrap_or_default())
}
