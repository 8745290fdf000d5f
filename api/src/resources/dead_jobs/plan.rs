//! Bulk actions on dead jobs: planned, and carried out as planned.

use std::time::Instant;

use engine::{
    BulkLimits, BulkPlan, BulkResult, DeadJobAction, DeadJobEffect, DeadJobFilter, DiscardEffect, DiscardMode,
};

use crate::{
    http::Problem,
    resources::bulk_plan::{self, PlanToken, Planned, PlannedEffect, PlannedSample, plan_changed},
    state::ApiState,
};

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
    /// A 422 for a token that is none; a 409 with the new plan if it is of another plan.
    pub(super) async fn run(
        self,
        state: &ApiState,
    ) -> Result<(BulkResult, Option<bulk_plan::BulkPlan>), Problem> {
        let began = Instant::now();
        let plan = match self.plan_token {
            None => self.plan(state, self.filter).await?,
            Some(token) => self.planned(state, &PlanToken::of_request(token)?).await?,
        };
        if self.dry_run {
            return Ok((BulkResult::default(), Some(self.shown(&plan))));
        }
        let left = self.limits.time_limit.saturating_sub(began.elapsed());
        let done = state.engine().carry_out(&plan, left, self.by, self.reason).await?;
        Ok((done, None))
    }

    async fn plan(&self, state: &ApiState, filter: &DeadJobFilter) -> Result<BulkPlan, Problem> {
        Ok(state.engine().plan_dead_jobs(filter, self.action, self.limits.max_jobs).await?)
    }

    /// Plans the action as of the time of the plan that the token names: dead jobs that died later don't change it.
    async fn planned(&self, state: &ApiState, token: &PlanToken) -> Result<BulkPlan, Problem> {
        let until = self.filter.died_before.map_or(token.time(), |before| before.min(token.time()));
        let filter = DeadJobFilter { died_before: Some(until), ..self.filter.clone() };
        let plan = self.plan(state, &filter).await?;
        if token.names(self.about(), &all(&plan)) {
            return Ok(plan);
        }
        Err(plan_changed(&self.shown(&self.plan(state, self.filter).await?)))
    }

    fn shown(&self, plan: &BulkPlan) -> bulk_plan::BulkPlan {
        bulk_plan::BulkPlan::of(self.about(), plan.died_before, &all(plan))
    }

    /// The word that distinguishes its plans from those of other actions.
    fn about(&self) -> &'static str {
        match self.action {
            DeadJobAction::Retry => "retry",
            DeadJobAction::Discard(DiscardMode::Safe) => "discard",
            DeadJobAction::Discard(DiscardMode::Force) => "force",
        }
    }
}

fn all(plan: &BulkPlan) -> Vec<Planned<'_>> {
    let planned = plan.jobs.iter().map(|job| Planned {
        sample: PlannedSample { workflow_id: job.saga_id.0, dead_job_id: Some(job.dead_job_id.0) },
        definition: &job.definition,
        step: &job.step,
        direction: job.direction,
        effect: job.effect.as_ref().map(|effect| shown_effect(*effect)).map_err(String::as_str),
    });
    planned.collect()
}

fn shown_effect(effect: DeadJobEffect) -> PlannedEffect {
    match effect {
        DeadJobEffect::Retried => PlannedEffect::Retry,
        DeadJobEffect::Requested => PlannedEffect::Request,
        DeadJobEffect::Discarded(DiscardEffect::Compensate) => PlannedEffect::Compensate,
        DeadJobEffect::Discarded(DiscardEffect::Finish) => PlannedEffect::End,
        DeadJobEffect::Discarded(DiscardEffect::Abandon) => PlannedEffect::Abandon,
    }
}
