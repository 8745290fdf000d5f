//! What the handles and tasks of an engine share does: performs and commits jobs, passes on commits, gives claims back.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Instant};

use tokio::sync::oneshot;

use crate::{
    definition::{erased::StepAnswer, saga::Definition, tx::CommitEffects},
    engine::Core,
    model::{
        ids::SagaId,
        outcome::{Outcome, Retry},
        status::Direction,
    },
    runtime::{
        claim::feed::{abandoned, begun, unbegun},
        commit::{advance::BatchMember, group_commit},
        job::{Committed, Job, Performed, PerformedKind},
    },
    store,
    support::{
        connection,
        faults::{DisabledGuard, Fault, FaultPoint},
        user_code,
    },
};

impl Core {
    pub(crate) fn lease_ms(&self) -> i64 {
        i64::try_from(self.settings.lease.as_millis()).unwrap_or(i64::MAX)
    }

    pub(crate) async fn perform(&self, job: &Job) -> Performed {
        let Some(definition) = job.definition.as_ref().filter(|_| {
            job.is_call()
                && !job.interrupted
                && job.state.lost_attempts < crate::runtime::commit::cursor::MAX_LOST_ATTEMPTS
        }) else {
            return Performed { kind: PerformedKind::InBatch };
        };
        let started = Instant::now();
        let place = || FaultPoint {
            definition: job.definition_name.to_string(),
            step: job.step.to_string(),
            direction: job.direction(),
        };
        let mut crash = None;
        let answer = match self.fault(job.saga_id, place, job.state.attempt) {
            Some(Fault::Fail(failure)) => StepAnswer::Outcome(Outcome::Fail(failure)),
            Some(Fault::Retry(error)) => StepAnswer::Outcome(Outcome::Retry(Retry::message(error))),
            Some(Fault::Hold(delay)) => {
                StepAnswer::Outcome(Outcome::Retry(Retry::snooze(delay, "held by a test")))
            }
            fault @ (Some(Fault::CrashBeforeCommit | Fault::CrashAfterCommit) | None) => {
                crash = fault;
                self.call(job, definition).await
            }
        };
        Performed { kind: PerformedKind::Called { answer, started, took: started.elapsed(), crash } }
    }

    async fn call(&self, job: &Job, definition: &Definition) -> StepAnswer {
        let node = &definition.graph.steps[job.state.at];
        let policy = match job.direction() {
            Direction::Action => node.retry,
            Direction::Undo => node.undo_retry,
        };
        let mut invocation = job.invocation();
        if self.disabled_guard() == Some(DisabledGuard::IdempotencyKey) {
            invocation.key_salt = Some(invocation.attempt);
        }
        let span = self.step_span(
            job.saga_id,
            &job.definition_name,
            &job.step,
            job.direction(),
            job.attempt(),
            job.trace.as_deref(),
        );
        let call = definition.actions[job.state.at].call(job.direction(), &invocation);
        match user_code::run_user_code(policy.timeout, tracing::Instrument::instrument(call, span)).await {
            Ok(answer) => answer,
            Err(broken) => {
                StepAnswer::Outcome(Outcome::Retry(Retry::message(format!("step `{}` {broken}", job.step))))
            }
        }
    }

    pub(crate) async fn commit(&self, job: Job, performed: Performed) -> Committed {
        let lane =
            self.lanes.get(job.definition.as_ref().map_or("", |definition| definition.graph.name.as_str()));
        let (reply, reply_rx) = oneshot::channel();
        let request = group_commit::CommitRequest { member: BatchMember { job, performed }, reply };
        let Some(lane) = lane else { return Committed::Lost };
        if let Err(rejected) = lane.send(request) {
            let member = rejected.0.member;
            if member.made_call() {
                self.give_up(member.job);
            } else {
                self.release_unstarted([member.job]);
            }
            return Committed::Lost;
        }
        reply_rx.await.unwrap_or(Committed::Lost)
    }

    /// Passes on what a transaction did, once it is committed.
    pub(crate) fn publish_effects(&self, after: CommitEffects) {
        for (definition, count) in after.started {
            metrics::counter!("sagaline_sagas_started_total", "definition" => definition).increment(count);
        }
        for job in after.jobs {
            self.feeds.dispatch(self, job);
        }
        for (queue, ids) in after.due {
            self.feeds.notify_due(&queue, ids);
        }
        self.waiters.notify(&after.ended);
    }

    /// Gives back claims that were not begun.
    pub(crate) fn release_unstarted(&self, jobs: impl IntoIterator<Item = Job>) {
        if self.crashed.load(Ordering::Acquire) {
            return;
        }
        self.leases.queue_release(jobs.into_iter().map(|job| unbegun(&job)));
        self.lease_wakeup.notify_one();
    }

    /// Gives back a claim whose attempt was cut short.
    pub(crate) fn give_up(&self, job: Job) {
        if self.is_crashed() {
            return;
        }
        let row = if job.is_call() { abandoned(&job) } else { begun(&job) };
        self.leases.queue_release([row]);
        self.lease_wakeup.notify_one();
        drop(job);
    }

    /// Gives back in the database what was noted for it; what can't be given back now stays noted.
    pub(crate) async fn flush_releases(&self) {
        // Whoever waits for its claims to be free waits for a flush that has them in hand, too.
        let _one_at_a_time = self.leases.flushing.lock().await;
        if self.is_crashed() {
            return;
        }
        let mut pending = self.leases.take_pending();
        if pending.rows.is_empty() {
            return;
        }
        match self.release(&pending.rows).await {
            Ok(released) => {
                pending.confirm();
                let mut by_queue = BTreeMap::<String, Vec<SagaId>>::new();
                for (id, queue) in released {
                    by_queue.entry(queue).or_default().push(SagaId(id));
                }
                for (queue, ids) in by_queue {
                    self.feeds.notify_due(&queue, ids);
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
        let limit = self.settings.db_timeout();
        let connection = connection::acquire(&self.pool, limit).await?;
        connection::on_connection(connection, limit, async |conn| {
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
    pub(crate) fn simulate_crash(&self) {
        if let Some(faults) = &self.faults {
            faults.crashed();
        }
        self.crashed.store(true, Ordering::Release);
        self.stop.cancel();
    }

    pub(crate) fn is_crashed(&self) -> bool {
        self.crashed.load(Ordering::Acquire)
    }
}
