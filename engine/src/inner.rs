//! What the handles and tasks of an engine share does: performs and commits jobs, passes on commits, gives claims back.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Instant};

use tokio::sync::oneshot;

use crate::{
    advance::Track,
    engine::Inner,
    erased::Answer,
    faults::{DisabledGuard, Fault, FaultPoint},
    feed::{abandoned, begun, unbegun},
    guard,
    ids::SagaId,
    job::{Committed, Job, Performed, PerformedKind},
    lane,
    outcome::{Outcome, Retry},
    saga::Definition,
    status::Direction,
    store,
    tx::AfterCommit,
    upkeep,
};

impl Inner {
    pub(crate) fn lease_ms(&self) -> i64 {
        i64::try_from(self.settings.lease.as_millis()).unwrap_or(i64::MAX)
    }

    pub(crate) async fn perform(&self, job: &Job) -> Performed {
        let Some(definition) = job
            .definition
            .as_ref()
            .filter(|_| job.is_call() && !job.interrupted && job.state.losses < crate::walker::MAX_LOSSES)
        else {
            return Performed { kind: PerformedKind::InSet };
        };
        let started = Instant::now();
        let place = || FaultPoint {
            definition: job.definition_name.to_string(),
            step: job.step.to_string(),
            direction: job.direction(),
        };
        let mut crash = None;
        let answer = match self.fault(job.saga_id, place, job.state.attempt) {
            Some(Fault::Fail(failure)) => Answer::Outcome(Outcome::Fail(failure)),
            Some(Fault::Retry(error)) => Answer::Outcome(Outcome::Retry(Retry::message(error))),
            Some(Fault::Hold(delay)) => {
                Answer::Outcome(Outcome::Retry(Retry::snooze(delay, "held by a test")))
            }
            fault @ (Some(Fault::CrashBeforeCommit | Fault::CrashAfterCommit) | None) => {
                crash = fault;
                self.call(job, definition).await
            }
        };
        Performed { kind: PerformedKind::Called { answer, started, took: started.elapsed(), crash } }
    }

    async fn call(&self, job: &Job, definition: &Definition) -> Answer {
        let node = &definition.graph.steps[job.state.at];
        let policy = match job.direction() {
            Direction::Action => node.retry,
            Direction::Undo => node.undo_retry,
        };
        let mut visit = job.visit();
        if self.disabled_guard() == Some(DisabledGuard::IdempotencyKey) {
            visit.salt = Some(visit.attempt);
        }
        let span = self.step_span(
            job.saga_id,
            &job.definition_name,
            &job.step,
            job.direction(),
            job.attempt(),
            job.trace.as_deref(),
        );
        let call = definition.actions[job.state.at].call(job.direction(), &visit);
        match guard::guarded(policy.timeout, tracing::Instrument::instrument(call, span)).await {
            Ok(answer) => answer,
            Err(broken) => {
                Answer::Outcome(Outcome::Retry(Retry::message(format!("step `{}` {broken}", job.step))))
            }
        }
    }

    pub(crate) async fn commit(&self, job: Job, performed: Performed) -> Committed {
        let lane =
            self.lanes.get(job.definition.as_ref().map_or("", |definition| definition.graph.name.as_str()));
        let (tell, told) = oneshot::channel();
        let request = lane::Request { track: Track { job, performed }, tell };
        let Some(lane) = lane else { return Committed::Lost };
        if let Err(rejected) = lane.send(request) {
            let track = rejected.0.track;
            if track.called() {
                self.give_up(track.job);
            } else {
                self.hand_back([track.job]);
            }
            return Committed::Lost;
        }
        told.await.unwrap_or(Committed::Lost)
    }

    /// Passes on what a transaction did, once it is committed.
    pub(crate) fn committed(&self, after: AfterCommit) {
        for (definition, count) in after.begun {
            metrics::counter!("sagaline_sagas_started_total", "definition" => definition).increment(count);
        }
        for job in after.jobs {
            self.feeds.give(self, job);
        }
        for (queue, ids) in after.due {
            self.feeds.due_now(&queue, ids);
        }
        self.waiters.tell(&after.ended);
    }

    /// Gives back claims that were not begun.
    pub(crate) fn hand_back(&self, jobs: impl IntoIterator<Item = Job>) {
        if self.died.load(Ordering::Acquire) {
            return;
        }
        self.holds.release_later(jobs.into_iter().map(|job| unbegun(&job)));
        self.keeper.notify_one();
    }

    /// Gives back a claim whose attempt was cut short.
    pub(crate) fn give_up(&self, job: Job) {
        if self.is_dead() {
            return;
        }
        let row = if job.is_call() { abandoned(&job) } else { begun(&job) };
        self.holds.release_later([row]);
        self.keeper.notify_one();
        drop(job);
    }

    /// Gives back in the database what was noted for it; what can't be given back now stays noted.
    pub(crate) async fn flush_releases(&self) {
        // Whoever waits for its claims to be free waits for a flush that has them in hand, too.
        let _one_at_a_time = self.holds.flushing.lock().await;
        if self.is_dead() {
            return;
        }
        let mut unreleased = self.holds.take_unreleased();
        if unreleased.rows.is_empty() {
            return;
        }
        match self.release(&unreleased.rows).await {
            Ok(released) => {
                unreleased.strike_off();
                let mut by_queue = BTreeMap::<String, Vec<SagaId>>::new();
                for (id, queue) in released {
                    by_queue.entry(queue).or_default().push(SagaId(id));
                }
                for (queue, ids) in by_queue {
                    self.feeds.due_now(&queue, ids);
                }
            }
            Err(error) => {
                tracing::debug!(error = %error, "can't give claims back now; their leases stand behind");
            }
        }
    }

    async fn release(
        &self,
        rows: &[store::claims::ReleaseRow],
    ) -> Result<Vec<(uuid::Uuid, String)>, sqlx::Error> {
        let limit = self.settings.upkeep();
        let connection = upkeep::connection(&self.pool, limit).await?;
        upkeep::bounded(connection, limit, async |conn| {
            let released = store::claims::release(conn, rows, self.worker).await?;
            let mut queues: Vec<String> = released.iter().map(|(_, queue)| queue.clone()).collect();
            queues.sort_unstable();
            queues.dedup();
            if !queues.is_empty() {
                store::starts::notify_due(conn, &queues).await?;
            }
            Ok(released)
        })
        .await
    }

    pub(crate) fn step_span(
        &self,
        saga_id: SagaId,
        definition: &str,
        step: &str,
        direction: Direction,
        attempt: u32,
        traceparent: Option<&str>,
    ) -> tracing::Span {
        let span = tracing::info_span!(
            "step", otel.name = %step, saga.id = %saga_id, saga.definition = %definition, step.name = %step,
            step.direction = %direction, step.attempt = attempt
        );
        if let (Some(link), Some(traceparent)) = (&self.trace_link, traceparent) {
            link.adopt(&span, traceparent);
        }
        span
    }

    pub(crate) fn fault(
        &self,
        saga_id: SagaId,
        place: impl FnOnce() -> FaultPoint,
        attempt: u32,
    ) -> Option<Fault> {
        self.faults.as_ref()?.at(saga_id, &place(), attempt)
    }

    pub(crate) fn disabled_guard(&self) -> Option<DisabledGuard> {
        self.faults.as_ref()?.disabled_guard()
    }

    /// A test made this engine die: it must leave no trace from now on.
    pub(crate) fn die(&self) {
        if let Some(faults) = &self.faults {
            faults.crashed();
        }
        self.died.store(true, Ordering::Release);
        self.stop.cancel();
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.died.load(Ordering::Acquire)
    }
}
