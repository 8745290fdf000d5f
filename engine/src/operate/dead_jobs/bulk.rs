//! Acts on many dead jobs: a plan says what would happen to which of them, then the plan is carried out.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::{Acted, DeadJobEffect, DeadSaga, decide, is_known_elsewhere};
use crate::{
    engine::Engine,
    model::{
        audit::Operator,
        dead_job::DeadJobFilter,
        dead_job_request::{DeadJobAction, DeadJobOutcome, DiscardMode},
        error::DeadJobError,
        error_chain::ErrorChain,
        ids::{DeadJobId, SagaId},
        outcome::chain,
        status::Direction,
        transition::DiscardEffect,
    },
    operate::decision::SagaGraphs,
    runtime::core::Core,
    store::{
        self,
        dead_jobs::{OpenDeadJobRow, OpenDeadJobs},
    },
    support::{
        bounded_list::{ListCost, ListError},
        connection::concerns_everybody,
    },
};

/// How many dead jobs are read at once.
const BATCH_SIZE: u32 = 100;

/// Why those of a plan are skipped that its execution had no time for.
pub(in crate::operate) const NOT_REACHED: &str = "there was no time left for it";

/// Limits of an action on many dead jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkLimits {
    /// The most dead jobs to act on, oldest first.
    pub max_jobs: u32,
    /// The time after which no further dead job is started.
    pub time_limit: Duration,
}

/// What an action on many dead jobs would do. It is made by [`Engine::plan_dead_jobs`] and changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkPlan {
    /// What is done to each.
    pub action: DeadJobAction,
    /// The plan has only dead jobs that died before this time, so that those that die meanwhile don't change it.
    pub died_before: DateTime<Utc>,
    /// The dead jobs, oldest first.
    pub jobs: Vec<PlannedDeadJob>,
}

/// What an action would do to one dead job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedDeadJob {
    /// The dead job.
    pub dead_job_id: DeadJobId,
    /// Its saga.
    pub saga_id: SagaId,
    /// The definition of its saga.
    pub definition: String,
    /// The step at which its saga died.
    pub step: String,
    /// The side of that step.
    pub direction: Direction,
    /// The effect, or why the dead job would be skipped.
    pub effect: Result<DeadJobEffect, String>,
}

/// The result of an action on many dead jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BulkResult {
    /// The dead jobs that were acted on, oldest first.
    pub done: Vec<DeadJobId>,
    /// Those of them whose sagas compensate now.
    pub compensating: Vec<DeadJobId>,
    /// The dead jobs whose code this process lacks, and for which the action is requested now, oldest first.
    pub requested: Vec<DeadJobId>,
    /// The dead jobs that were skipped, because the action does not apply to them or the time was over, with the reason.
    pub skipped: Vec<(DeadJobId, String)>,
    /// The dead jobs that could not be acted on, with the error. Such a failure does not stop the action on the others.
    pub failed: Vec<(DeadJobId, String)>,
}

impl Engine {
    /// Says what an action on the open dead jobs that match would do to each: the oldest `max_jobs` to which it applies,
    /// and at most as many between them that it would skip. Those for which the same is requested already, and which this
    /// process can't act on, are not in it, unless it is a forced discard.
    ///
    /// # Errors
    /// See [`ListError`].
    pub async fn plan_dead_jobs(
        &self,
        filter: &DeadJobFilter,
        action: DeadJobAction,
        max_jobs: u32,
    ) -> Result<BulkPlan, ListError> {
        // Excludes sagas that die again while the plan is carried out, so that it can't go on forever.
        let now = self.now().await?;
        let died_before = filter.died_before.map_or(now, |before| before.min(now));
        let cost = ListCost::may_scan_if(filter.may_scan());
        let filter = DeadJobFilter { died_before: Some(died_before), ..filter.clone() };
        let (mut plan, mut after) = (BulkPlan { action, died_before, jobs: Vec::new() }, None);
        let (mut applies, mut skipped) = (0, 0);
        let mut planning = Planning::new(&self.core, action);
        // A forced discard ends those that no live process knows any more, also if one that did was asked before.
        let not_requested = match action {
            DeadJobAction::Retry | DeadJobAction::Discard(DiscardMode::Safe) => Some(action),
            DeadJobAction::Discard(DiscardMode::Force) => None,
        };
        let (filter, own_hashes, limit) = (&filter, self.core.hashes.as_slice(), BATCH_SIZE);
        while applies < max_jobs && skipped < max_jobs {
            let jobs = OpenDeadJobs { filter, cost, after, not_requested, own_hashes, limit };
            let rows = store::dead_jobs::open(self.pool(), jobs).await?;
            let Some(last) = rows.last() else { break };
            after = Some(last.id);
            let mut conn = self.pool().acquire().await?;
            for row in rows {
                let job = planning.plan(&mut conn, row).await?;
                *if job.effect.is_ok() { &mut applies } else { &mut skipped } += 1;
                plan.jobs.push(job);
                if applies >= max_jobs || skipped >= max_jobs {
                    break;
                }
            }
        }
        Ok(plan)
    }

    /// Does what a plan says, oldest first, each in its own transaction. Leaves out a dead job on which another operator
    /// has acted in the meantime, and skips one to which something else would happen than was planned.
    ///
    /// # Errors
    /// When the database can't be reached; dead jobs that were acted on before that stay so.
    pub async fn carry_out(
        &self,
        plan: &BulkPlan,
        time_limit: Duration,
        by: impl Into<Operator<'_>>,
        reason: &str,
    ) -> Result<BulkResult, sqlx::Error> {
        let (began, by) = (Instant::now(), by.into());
        let mut result = BulkResult::default();
        for (nth, job) in plan.jobs.iter().enumerate() {
            // The first is tried in any case, so that each call gets on.
            if nth > 0 && began.elapsed() >= time_limit {
                let rest = plan.jobs[nth..].iter().map(|job| (job.dead_job_id, NOT_REACHED.to_owned()));
                result.skipped.extend(rest);
                break;
            }
            match &job.effect {
                Ok(planned) => {
                    let acted = self.act(job.dead_job_id, plan.action, Some(*planned), &by, reason).await;
                    result.record(job.dead_job_id, acted)?;
                }
                Err(why) => result.skipped.push((job.dead_job_id, why.clone())),
            }
        }
        Ok(result)
    }

    /// Retries the open dead jobs that match, oldest first: plans it, then carries the plan out.
    ///
    /// # Errors
    /// See [`ListError`]; dead jobs retried before that stay retried.
    pub async fn retry_dead_jobs(
        &self,
        filter: &DeadJobFilter,
        limits: BulkLimits,
        by: impl Into<Operator<'_>>,
        reason: &str,
    ) -> Result<BulkResult, ListError> {
        let plan = self.plan_dead_jobs(filter, DeadJobAction::Retry, limits.max_jobs).await?;
        Ok(self.carry_out(&plan, limits.time_limit, by, reason).await?)
    }

    /// Discards the open dead jobs that match, oldest first, as [`Engine::discard_dead_job`] does: plans it, then carries
    /// the plan out.
    ///
    /// # Errors
    /// See [`ListError`]; dead jobs discarded before that stay discarded.
    pub async fn discard_dead_jobs(
        &self,
        filter: &DeadJobFilter,
        limits: BulkLimits,
        mode: DiscardMode,
        by: impl Into<Operator<'_>>,
        reason: &str,
    ) -> Result<BulkResult, ListError> {
        let plan = self.plan_dead_jobs(filter, DeadJobAction::Discard(mode), limits.max_jobs).await?;
        Ok(self.carry_out(&plan, limits.time_limit, by, reason).await?)
    }
}

/// Says what an action would do to one dead job after the other, and asks about each graph once.
struct Planning<'a> {
    core: &'a Core,
    action: DeadJobAction,
    graphs: SagaGraphs<'a>,
    known_elsewhere: HashMap<String, bool>,
}

impl<'a> Planning<'a> {
    fn new(core: &'a Core, action: DeadJobAction) -> Self {
        Self { core, action, graphs: SagaGraphs::new(core), known_elsewhere: HashMap::new() }
    }

    async fn plan(
        &mut self,
        conn: &mut PgConnection,
        row: OpenDeadJobRow,
    ) -> Result<PlannedDeadJob, sqlx::Error> {
        let graph = self.graphs.find(conn, &row.graph_hash).await?;
        let is_known_elsewhere = if let Some(known) = self.known_elsewhere.get(&row.graph_hash) {
            *known
        } else {
            let known = is_known_elsewhere(self.core, conn, &graph, &row.graph_hash).await?;
            self.known_elsewhere.insert(row.graph_hash.clone(), known);
            known
        };
        let state = graph.state(&row.step, &row.state)?;
        let saga = DeadSaga { graph: &graph, state: &state, step: &row.step, is_known_elsewhere };
        let effect = decide(saga, self.action).map_err(|error| error.to_string());
        Ok(PlannedDeadJob {
            dead_job_id: DeadJobId(row.id),
            saga_id: SagaId(row.saga_id),
            definition: row.definition,
            step: row.step,
            direction: state.direction,
            effect,
        })
    }
}

impl BulkResult {
    /// Adds the result for one dead job. Returns an error only when the database can't be reached; other failures are
    /// recorded, so that the remaining dead jobs are still acted on.
    fn record(
        &mut self,
        id: DeadJobId,
        result: Result<DeadJobOutcome<Acted>, DeadJobError>,
    ) -> Result<(), sqlx::Error> {
        match result {
            Ok(DeadJobOutcome::Requested(_)) => self.requested.push(id),
            Ok(DeadJobOutcome::Done(Acted { discarded, .. })) => {
                self.done.push(id);
                if discarded == Some(DiscardEffect::Compensate) {
                    self.compensating.push(id);
                }
            }
            // Another operator acted on it.
            Err(DeadJobError::NotFound(_) | DeadJobError::AlreadyResolved(_) | DeadJobError::Archived(_)) => {
            }
            Err(error @ (DeadJobError::NotUndone { .. } | DeadJobError::NotAsPlanned)) => {
                self.skipped.push((id, error.to_string()));
            }
            Err(DeadJobError::Database(error)) if concerns_everybody(&error) => return Err(error),
            Err(error @ (DeadJobError::Database(_) | DeadJobError::RefusedByObserver(_))) => {
                tracing::error!(dead_job.id = %id, error = %ErrorChain(&error), "a dead job can't be acted on; it is skipped");
                self.failed.push((id, chain(&error).join(": ")));
            }
        }
        Ok(())
    }
}
