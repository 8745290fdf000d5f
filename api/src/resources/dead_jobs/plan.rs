//! The plan of a bulk action on dead jobs, and the token by which its execution names it.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use engine::{
    BulkLimits, BulkPlan, BulkResult, DeadJobAction, DeadJobEffect, DeadJobFilter, DiscardEffect, DiscardMode,
};
use serde::Serialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{http::Problem, resources::workflows::StepDirection, state::ApiState};

/// How many dead jobs of a kind a plan names.
const SAMPLES: usize = 10;

/// How many bytes of the digest are in a token.
const DIGEST_BYTES: usize = 16;

/// What a bulk action would do, to how many dead jobs of which kind.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadJobPlan {
    /// Send it with `"dry_run": false`: then exactly this is done, or nothing (409 `plan-changed`). Dead jobs that died
    /// after the plan was made are not in it and don't change it.
    #[schema(example = "AAZJ8S7vWAB4OwpEl1sGkfJ2cXjUoXwk", pattern = "^[A-Za-z0-9_-]{32}$")]
    pub(crate) plan_token: String,
    /// How many dead jobs it would act on: the oldest that match, up to `limit`, without those that it skips.
    pub(crate) count: usize,
    /// By kind and effect, the largest number first.
    pub(crate) kinds: Vec<PlannedKind>,
}

/// What would happen to the dead jobs of one kind.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlannedKind {
    pub(crate) definition: String,
    /// The step at which the workflows died.
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

/// A dead job of a plan.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlannedSample {
    pub(crate) dead_job_id: Uuid,
    pub(crate) workflow_id: Uuid,
}

/// What would happen to a dead job. More may be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PlannedEffect {
    /// Its workflow would go on where it died.
    Retry,
    /// Its workflow would compensate.
    Compensate,
    /// Its workflow would end as it is, because it is past its point of no return.
    End,
    /// Its workflow would end with steps that are not undone.
    Abandon,
    /// It would be left as it is.
    Skip,
}

impl PlannedEffect {
    fn of(effect: &Result<DeadJobEffect, String>) -> Self {
        match effect {
            Ok(DeadJobEffect::Retried) => Self::Retry,
            Ok(DeadJobEffect::Discarded(DiscardEffect::Compensate)) => Self::Compensate,
            Ok(DeadJobEffect::Discarded(DiscardEffect::Finish)) => Self::End,
            Ok(DeadJobEffect::Discarded(DiscardEffect::Abandon)) => Self::Abandon,
            Err(_) => Self::Skip,
        }
    }

    /// The byte that stands for it in a token.
    fn byte(self) -> u8 {
        match self {
            Self::Retry => b'r',
            Self::Compensate => b'c',
            Self::End => b'e',
            Self::Abandon => b'a',
            Self::Skip => b's',
        }
    }
}

impl DeadJobPlan {
    fn of(plan: &BulkPlan) -> Self {
        let mut kinds = BTreeMap::new();
        for job in &plan.jobs {
            let why = job.effect.as_ref().err();
            let key = (&job.definition, &job.step, job.direction.name(), PlannedEffect::of(&job.effect), why);
            let kind = kinds.entry(key).or_insert_with(|| PlannedKind {
                definition: job.definition.clone(),
                step: job.step.clone(),
                direction: job.direction,
                effect: PlannedEffect::of(&job.effect),
                why: why.cloned(),
                count: 0,
                samples: Vec::new(),
            });
            kind.count += 1;
            if kind.samples.len() < SAMPLES {
                let (dead_job_id, workflow_id) = (job.dead_job_id.0, job.saga_id.0);
                kind.samples.push(PlannedSample { dead_job_id, workflow_id });
            }
        }
        let mut kinds: Vec<_> = kinds.into_values().collect();
        kinds.sort_by_key(|kind| std::cmp::Reverse(kind.count));
        let count = plan.jobs.iter().filter(|job| job.effect.is_ok()).count();
        Self { plan_token: token(plan), count, kinds }
    }
}

/// One bulk action, as it was asked for.
pub(super) struct BulkAction<'a> {
    pub(super) filter: &'a DeadJobFilter,
    pub(super) action: DeadJobAction,
    pub(super) limits: BulkLimits,
    pub(super) dry_run: bool,
    pub(super) plan_token: Option<&'a str>,
    pub(super) by: engine::Operator<'a>,
    pub(super) reason: &'a str,
}

impl BulkAction<'_> {
    /// Plans the action and, unless this is a dry run, carries the plan out. Returns what was done, and the plan of a dry
    /// run.
    ///
    /// # Errors
    /// A 422 for a token that is none, or one in a dry run; a 409 with the new plan if the token is of another plan.
    pub(super) async fn run(self, state: &ApiState) -> Result<(BulkResult, Option<DeadJobPlan>), Problem> {
        let plan = match self.plan_token {
            None => self.plan(state, self.filter).await?,
            Some(_) if self.dry_run => {
                let only = "a dry run makes a plan; its token is for `\"dry_run\": false`";
                return Err(Problem::field("/plan_token", "unexpected", only));
            }
            Some(token) => self.planned(state, token).await?,
        };
        if self.dry_run {
            return Ok((BulkResult::default(), Some(DeadJobPlan::of(&plan))));
        }
        let done = state.engine().carry_out(&plan, self.limits.time_limit, self.by, self.reason).await?;
        Ok((done, None))
    }

    async fn plan(&self, state: &ApiState, filter: &DeadJobFilter) -> Result<BulkPlan, Problem> {
        Ok(state.engine().plan_dead_jobs(filter, self.action, self.limits.max_jobs).await?)
    }

    /// Plans the action as of the time of the plan that the token names.
    async fn planned(&self, state: &ApiState, of: &str) -> Result<BulkPlan, Problem> {
        let Some(died_before) = time_of(of) else {
            let unknown = "must be the `plan_token` of a dry run";
            return Err(Problem::field("/plan_token", "invalid", unknown));
        };
        let until = self.filter.died_before.map_or(died_before, |before| before.min(died_before));
        let plan =
            self.plan(state, &DeadJobFilter { died_before: Some(until), ..self.filter.clone() }).await?;
        if token(&plan) == of {
            return Ok(plan);
        }
        let plan = self.plan(state, self.filter).await?;
        Err(Problem::plan_changed(serde_json::to_value(DeadJobPlan::of(&plan)).unwrap_or_default()))
    }
}

/// Names a plan: the time of it, and a digest of what it would do to which dead jobs.
fn token(plan: &BulkPlan) -> String {
    let mut digest = Sha256::new();
    digest.update(match plan.action {
        DeadJobAction::Retry => "retry",
        DeadJobAction::Discard(DiscardMode::Safe) => "discard",
        DeadJobAction::Discard(DiscardMode::Force) => "force",
    });
    for job in &plan.jobs {
        digest.update(job.dead_job_id.0);
        digest.update([PlannedEffect::of(&job.effect).byte()]);
    }
    let mut token = plan.died_before.timestamp_micros().to_be_bytes().to_vec();
    token.extend_from_slice(&digest.finalize()[..DIGEST_BYTES]);
    URL_SAFE_NO_PAD.encode(token)
}

/// The time of the plan that a token names.
fn time_of(token: &str) -> Option<DateTime<Utc>> {
    let token = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (time, digest) = token.split_first_chunk()?;
    if digest.len() != DIGEST_BYTES {
        return None;
    }
    DateTime::from_timestamp_micros(i64::from_be_bytes(*time))
}
