//! What happens to the sagas of a case from outside: callers cancel, operators retry and discard, time passes.

use std::collections::HashMap;

use crate::{
    engine::Engine,
    model::{
        dead_job::{DeadJob, DeadJobFilter},
        dead_job_request::DiscardMode,
        error::CancelError,
        ids::SagaId,
        page::Page,
        status::{Direction, Status},
        views::SagaView,
    },
    store,
    testing::{
        hooks,
        proof::{
            ProofError,
            case::Kind,
            case_faults::{is, set},
            case_run::{CaseRun, Exit},
            plan::expected,
            process::Process,
            report::Note,
            setup::Version,
        },
    },
};

impl CaseRun<'_> {
    /// Acts on sagas in progress. Returns why the process ends, if it does.
    pub(super) async fn act(
        &mut self,
        process: &Process,
        active: &[&SagaView],
    ) -> Result<Option<Exit>, ProofError> {
        if self.case.kind.stops() && !self.is_released() && self.all_stand(active) {
            if self.case.kind.begins_earlier() {
                self.release();
                let next =
                    if self.case.kind == Kind::GraphIsUnknown { Version::Newest } else { Version::Both };
                return Ok(Some(Exit::Replaced(next)));
            }
            let _pause = process.pause().await;
            self.cancel_all(&process.engine).await?;
            self.release();
            return Ok(None);
        }
        self.act_on_dead_children(process).await?;
        self.send_late(process, active).await?;
        self.act_on_waits(process, active).await?;
        if self.has_crashed {
            hooks::find_forgotten(&process.engine).await?;
        }
        if !self.holds() {
            hooks::make_all_due(&self.pool).await?;
        }
        process.engine.core.feeds.wake_all();
        Ok(None)
    }

    /// Acts when all sagas are at rest. Returns whether they may go on.
    pub(super) async fn act_at_rest(
        &mut self,
        process: &Process,
        sagas: &[SagaView],
    ) -> Result<bool, ProofError> {
        if self.case.kind == Kind::UndoNeedsAPerson && !is(&self.faults.healed) {
            set(&self.faults.healed);
            let _pause = process.pause().await;
            for job in self.dead_jobs(&process.engine).await? {
                if self.is_struck(job.saga_id) {
                    process.engine.retry_dead_job(job.dead_job_id, "a test", "the cause is fixed").await?;
                    set(&self.faults.met);
                }
            }
            return Ok(is(&self.faults.met));
        }
        if !std::mem::replace(&mut self.sent_last, true) {
            self.send_last(process, sagas).await?;
        }
        Ok(false)
    }

    /// Acts when one process has ended and before the next begins.
    pub(super) async fn between_processes(&mut self, next: Version) -> Result<(), ProofError> {
        let cancels = match self.case.kind {
            Kind::AnswerIsLost => is(&self.faults.met),
            Kind::GraphChangesThenCancelled => next == Version::Both,
            _ => false,
        };
        if cancels && !std::mem::replace(&mut self.has_cancelled, true) {
            let outside = self.outside()?;
            let cancelled = self.cancel_all(&outside).await;
            outside.shutdown().await;
            cancelled?;
        }
        Ok(())
    }

    /// Looks whether a process that does not know the graph of the sagas leaves them as they are.
    pub(super) async fn left_alone(&mut self, process: &Process) -> Result<Exit, ProofError> {
        let before = self.stands().await?;
        hooks::make_all_due(&self.pool).await?;
        let claimed = process.engine.claim_ids(&self.sagas).await?;
        if claimed > 0 {
            self.note("a process that does not know the graph of a saga claimed it");
        }
        let (mut sagas, mut are_aside) = (self.views().await?, false);
        while !are_aside && !self.is_over() {
            // One that waits is not due, and need not be set aside.
            are_aside = sagas.iter().all(|saga| saga.waits_for.is_some());
            if !are_aside {
                tokio::task::yield_now().await;
                sagas = self.views().await?;
            }
        }
        if !are_aside {
            self.note("a process that does not know the graph of a saga does not set it aside");
        }
        let after = self.stands().await?;
        if before != after {
            let details = format!("{before:?}, then {after:?}");
            self.notes
                .push(Note::with("a process that does not know the graph of a saga changed it", details));
        }
        Ok(Exit::Replaced(Version::Both))
    }

    /// Where each saga stands, how often it was claimed and how long its history is.
    async fn stands(&self) -> Result<Vec<(Status, String, Direction, i64, usize)>, ProofError> {
        let mut stands = Vec::new();
        for saga in self.views().await? {
            let entries = store::queries::history(&self.pool, saga.saga_id.0).await?.len();
            stands.push((saga.status, saga.step, saga.direction, saga.epoch, entries));
        }
        Ok(stands)
    }

    /// Whether all sagas that are struck stand at the case's step.
    fn all_stand(&self, active: &[&SagaView]) -> bool {
        let stands =
            |id: &SagaId| active.iter().any(|saga| saga.saga_id == *id && is_held_at(saga, &self.case.step));
        self.faults.struck.iter().all(stands)
    }

    async fn cancel_all(&mut self, engine: &Engine) -> Result<(), ProofError> {
        let wanted = expected(self.graph, &self.case, &self.deaths);
        for id in self.faults.struck.clone() {
            match (engine.cancel(id, "a test", "to see it compensate").await, wanted) {
                (Ok(_), Some(Status::Compensated))
                | (Err(CancelError::PastPivot { .. }), Some(Status::Completed)) => {}
                (Err(CancelError::Database(error)), _) => return Err(error.into()),
                (answer, _) => self.notes.push(Note::with(
                    format!("a cancel at `{}` was answered otherwise", self.case.step),
                    format!("{answer:?}"),
                )),
            }
        }
        Ok(())
    }

    /// Retries or discards the dead jobs of children.
    async fn act_on_dead_children(&mut self, process: &Process) -> Result<(), ProofError> {
        if !matches!(self.case.kind, Kind::ChildDies | Kind::ChildIsDiscarded) {
            return Ok(());
        }
        let engine = &process.engine;
        for job in self.dead_jobs(engine).await? {
            if self.sagas.contains(&job.saga_id) {
                continue;
            }
            set(&self.faults.met);
            if self.case.kind == Kind::ChildDies {
                set(&self.faults.healed);
                engine.retry_dead_job(job.dead_job_id, "a test", "the cause is fixed").await?;
            } else {
                let (mode, reason) = (DiscardMode::Force, "it is given up");
                engine.discard_dead_job(job.dead_job_id, mode, "a test", reason).await?;
            }
        }
        Ok(())
    }

    /// The dead jobs of the case's sagas and of their children.
    async fn dead_jobs(&self, engine: &Engine) -> Result<Vec<DeadJob>, ProofError> {
        let page = Page { after: None, limit: 1000 };
        let jobs = engine.dead_jobs(&DeadJobFilter::default(), page).await?.items;
        let ids: Vec<_> = jobs.iter().map(|job| job.saga_id.0).collect();
        let sagas = store::queries::sagas_with_ids(&self.pool, &ids).await?;
        let parents: HashMap<SagaId, Option<SagaId>> = sagas
            .iter()
            .map(|saga| (saga.saga_id, saga.child_of.as_ref().map(|child_of| child_of.root_id)))
            .collect();
        let is_ours = |job: &DeadJob| {
            let root = parents.get(&job.saga_id).copied().flatten().unwrap_or(job.saga_id);
            self.sagas.contains(&root)
        };
        Ok(jobs.into_iter().filter(is_ours).collect())
    }
}

/// Whether a saga is held at this step, or waits there.
pub(super) fn is_held_at(saga: &SagaView, step: &str) -> bool {
    let waits = saga.waits_for.is_some();
    saga.step == step
        && saga.direction == Direction::Action
        && saga.lease_owner.is_none()
        && (waits || saga.error.as_deref().is_some_and(|error| error.contains("held by a test")))
}
