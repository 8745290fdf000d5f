//! The working state of one saga in a batch: applies answers through the pure transition function, and collects history
//! rows. The job itself stays unchanged until the commit. Cancels and deadlines are in `interruption.rs`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    definition::{
        invocation::Invocation, saga::Definition, start_context::StartContext, step_answer::StepAnswer,
    },
    model::{
        error_chain::in_one_line,
        graph::Graph,
        kinds::StepKind,
        outcome::{Counts, Failure, Outcome, Retry},
        retry::RetryPolicy,
        status::{Direction, Status},
        storable::{storable_details, storable_failure, storable_text, storable_texts},
        stored_value::{StoredValue, StoredValues},
        transition::{Event, MAX_LOST_ATTEMPTS, Next, State, can_compensate, transition},
        views::HistoryOutcome,
    },
    runtime::{
        commit::{
            attempt_error::AttemptError, cancels::Cancels, children_wait::ChildrenWait,
            continuation::Continuation, postponement::Postponement, recovery::Recovery, wait::Wait,
        },
        core::Core,
        job::Job,
        queue::throttle::LocalQueues,
    },
    store::commits::{FencedSaga, HistoryRow, SagaUpdate},
    support::faults::CrashPoint,
};

/// One saga of a batch while a transaction advances it.
pub(crate) struct SagaCursor<'a> {
    pub(crate) index: usize,
    pub(crate) job: &'a Job,
    pub(crate) graph: &'a Graph,
    pub(crate) definition: &'a Arc<Definition>,
    pub(crate) state: State,
    pub(crate) next: Next,
    pub(crate) delay: Duration,
    pub(crate) step_name: String,
    pub(crate) values: StoredValues,
    pub(crate) seq: i32,
    pub(crate) error: Option<String>,
    pub(crate) cancels: Cancels,
    pub(crate) deadline_passed: bool,
    /// The time since the saga was created.
    pub(crate) age: Duration,
    pub(super) postponement: Postponement,
    pub(super) wait: Wait,
    pub(super) children_wait: Option<ChildrenWait>,
    /// What the saga gave, if it completed in this batch.
    pub(crate) result: Option<StoredValue>,
    /// Whether the saga ended or died in this batch, so that observers are called.
    pub(crate) came_to_rest: bool,
    /// Whether the saga's step has to wait for another transaction.
    left: bool,
    pub(crate) crash: CrashPoint,
}

impl<'a> SagaCursor<'a> {
    pub(crate) fn new(index: usize, job: &'a Job, row: &FencedSaga) -> Self {
        Self {
            index,
            job,
            graph: job.graph(),
            definition: &job.definition,
            state: job.state.clone(),
            next: Next::Work,
            delay: Duration::ZERO,
            step_name: job.step.to_string(),
            values: job.values.clone(),
            seq: row.history_seq,
            error: None,
            cancels: Cancels::of(row),
            deadline_passed: row.deadline_passed,
            age: Duration::from_millis(u64::try_from(row.age_ms).unwrap_or_default()),
            postponement: Postponement::of(row),
            wait: Wait::of(row),
            children_wait: None,
            result: None,
            came_to_rest: false,
            left: false,
            crash: CrashPoint::default(),
        }
    }

    pub(crate) fn runs_in_transaction(&self) -> bool {
        self.next == Next::Work && !self.left && self.kind() == Some(StepKind::Transaction)
    }

    pub(super) fn kind(&self) -> Option<StepKind> {
        self.graph.steps.get(self.state.step_index).map(|node| node.kind)
    }

    pub(super) fn policy(&self) -> RetryPolicy {
        self.graph.policy(self.state.step_index, self.state.direction)
    }

    /// Counts the attempt, unless the claim has already counted it.
    pub(crate) fn begin(&mut self) {
        if self.state.attempt == 0 {
            self.apply(&Event::AttemptStarted);
        }
    }

    /// Dead-letters a saga that this process can't run, or that keeps crashing its process.
    pub(crate) fn dead_letter_if_unrunnable(&mut self, history: &mut Vec<HistoryRow>) {
        if let Some(reason) = &self.job.unreadable {
            self.dead_letter(reason.clone(), history);
        } else if self.state.lost_attempts >= MAX_LOST_ATTEMPTS {
            let error =
                format!("its process vanished {} times in a row during this step", self.state.lost_attempts);
            self.dead_letter(error, history);
        } else if self.kind().is_none() {
            let (saga, step) = (&self.job.definition_name, &self.job.step);
            self.dead_letter(format!("saga `{saga}` has no step `{step}` in its graph"), history);
        } else if self.kind() == Some(StepKind::Call) && !self.job.interrupted {
            self.dead_letter(format!("`{}` is a call step, but was not performed", self.job.step), history);
        }
    }

    /// Dead-letters a saga because no other outcome of it can be written.
    pub(crate) fn dead_letter_unwritable(&mut self, error: &[String], history: &mut Vec<HistoryRow>) {
        let error = in_one_line(error);
        self.record_in_doubt("its outcome could not be written", history);
        self.dead_letter(format!("its outcome could not be written: {error}"), history);
    }

    /// Records that a call was made whose answer is lost.
    fn record_in_doubt(&mut self, error: &str, history: &mut Vec<HistoryRow>) {
        if self.kind() == Some(StepKind::Call) {
            self.record_event(HistoryOutcome::Retry, vec![error.into()], history);
            self.apply(&Event::Retry(Counts::Attempt));
        }
    }

    pub(super) fn dead_letter(&mut self, error: String, history: &mut Vec<HistoryRow>) {
        self.record_event(HistoryOutcome::DeadLettered, vec![error], history);
        self.apply(&Event::DeadLettered);
    }

    /// The answer if it is known without running the step: an injected fault, or a step already found to break its
    /// batch.
    pub(crate) fn predetermined_answer(&mut self, core: &Core, recovery: &Recovery) -> Option<StepAnswer> {
        if let Some(answer) = self.forced_answer(recovery) {
            return Some(answer);
        }
        let side = self.state.side();
        if side.direction == Direction::Undo && core.faults.is_undo_disabled() {
            return Some(StepAnswer::done(None));
        }
        let (saga_id, definition) = (self.job.saga_id, &self.job.definition_name);
        let attempt = self.state.attempt;
        let injected = core.faults.before_step(saga_id, definition, &self.step_name, side.direction, attempt);
        self.crash = self.crash.or(injected.crash);
        injected.answer.map(StepAnswer::Outcome)
    }

    /// The answer for a step that is known to fail its batch.
    pub(crate) fn forced_answer(&self, recovery: &Recovery) -> Option<StepAnswer> {
        recovery.outcome_for(self.state.side()).cloned().map(StepAnswer::Outcome)
    }

    pub(crate) fn invocation(&self) -> Invocation {
        Invocation {
            saga_id: self.job.saga_id,
            step: self.step_name.clone(),
            attempt: self.state.attempt,
            values: self.values.clone(),
            cause: self.state.cause.clone(),
            trace: self.job.trace.clone(),
            context: StartContext::default(),
            call: None,
            idempotency_key_salt: None,
        }
    }

    pub(crate) fn span(&self, core: &Core) -> tracing::Span {
        core.step_span(
            self.job.saga_id,
            &self.job.definition_name,
            &self.step_name,
            self.state.direction,
            self.state.attempt,
            self.job.trace.as_deref(),
        )
    }

    /// Applies a step's answer.
    pub(crate) fn apply_answer(
        &mut self,
        answer: &StepAnswer,
        started: Instant,
        took: Duration,
        history: &mut Vec<HistoryRow>,
    ) {
        match answer {
            StepAnswer::InputUnreadable(reason) => self.dead_letter(reason.clone(), history),
            StepAnswer::NotRun => self.left = true,
            StepAnswer::OutputTooLarge(failure) => {
                self.record(HistoryOutcome::Exhausted, None, failure.into(), started, took, history);
                self.apply(&Event::Exhausted(failure.clone()));
            }
            StepAnswer::OutputUnstorable(reason) => {
                self.record_in_doubt("it was called, but its answer is lost", history);
                self.dead_letter(reason.clone(), history);
            }
            StepAnswer::Outcome(Outcome::Done(output)) => {
                self.record(
                    HistoryOutcome::Done,
                    output.clone(),
                    AttemptError::default(),
                    started,
                    took,
                    history,
                );
                if self.state.direction == Direction::Action {
                    let definition = self.definition;
                    definition.set_output(&mut self.values, self.state.step_index, output.as_ref());
                }
                self.apply(&Event::Done);
            }
            StepAnswer::Outcome(Outcome::Retry(retry)) => self.apply_retry(retry, started, took, history),
            StepAnswer::Outcome(Outcome::Fail(failure)) => {
                let failure = storable_failure(failure);
                let error = (&failure).into();
                self.record(HistoryOutcome::Failed, None, error, started, took, history);
                self.apply(&Event::Failed(failure));
            }
        }
    }

    fn apply_retry(
        &mut self,
        retry: &Retry,
        started: Instant,
        took: Duration,
        history: &mut Vec<HistoryRow>,
    ) {
        let policy = self.policy();
        if let Some((code, why)) = self.postponement.exhaustion(retry.counts, self.state.attempt, &policy) {
            let last = storable_text(in_one_line(&retry.error));
            let last = if last.is_empty() { "no reason given" } else { &last };
            let failure = Failure::new(code, format!("gave up after {why}; the last: {last}"));
            let error = match retry.counts {
                Counts::Attempt => retry.into(),
                // What a snooze says is not why the engine gives up.
                Counts::Snooze => AttemptError { details: retry.details.clone(), ..(&failure).into() },
            };
            self.record(HistoryOutcome::Exhausted, None, error, started, took, history);
            self.apply(&Event::Exhausted(failure));
            return;
        }
        let outcome = match retry.counts {
            Counts::Attempt => HistoryOutcome::Retry,
            Counts::Snooze => HistoryOutcome::Snoozed,
        };
        self.record(outcome, None, retry.into(), started, took, history);
        self.delay = retry.after.unwrap_or_else(|| policy.delay(self.state.attempt, rand::random()));
        self.apply(&Event::Retry(retry.counts));
    }

    pub(super) fn apply(&mut self, event: &Event) {
        match transition(self.graph, &self.state, event) {
            Ok((state, next)) => {
                self.postponement.note(event);
                // Observers are called also if the saga was dead-lettered at the claim and then cancelled to its end.
                self.came_to_rest = self.job.state.status.is_active() && !state.status.is_active();
                if state.side() != self.state.side() {
                    self.wait.leave();
                    if let Some(node) = self.graph.steps.get(state.step_index) {
                        self.step_name.clone_from(&node.name);
                    }
                }
                if matches!(event, Event::Done | Event::Chosen(_)) {
                    self.error = None;
                }
                (self.state, self.next) = (state, next);
            }
            Err(refusal) => tracing::error!(
                saga.id = %self.job.saga_id, event = ?event, state = ?self.state, error = %refusal,
                "an event does not apply to the state of its saga; the state is unchanged"
            ),
        }
    }

    /// Records what happened to the saga without a step being run.
    pub(super) fn record_event(
        &mut self,
        outcome: HistoryOutcome,
        why: Vec<String>,
        history: &mut Vec<HistoryRow>,
    ) {
        self.record(outcome, None, why.into(), Instant::now(), Duration::ZERO, history);
    }

    pub(super) fn record(
        &mut self,
        outcome: HistoryOutcome,
        output: Option<StoredValue>,
        error: AttemptError,
        started: Instant,
        took: Duration,
        history: &mut Vec<HistoryRow>,
    ) {
        self.seq += 1;
        let AttemptError { sentences, details } = error;
        let (error, details) = (storable_texts(sentences), storable_details(details));
        if !error.is_empty() {
            self.error = Some(storable_text(in_one_line(&error)));
        }
        history.push(HistoryRow {
            saga_id: self.job.saga_id.0,
            seq: self.seq,
            step: self.step_name.clone(),
            direction: self.state.direction.name(),
            outcome,
            attempt: i32::try_from(self.state.attempt).unwrap_or(i32::MAX),
            started,
            duration: took,
            output: output.map(|output| output.stored().clone()),
            error,
            details: (!details.is_null()).then(|| details.to_string()),
            epoch: self.job.epoch,
        });
    }

    pub(crate) fn is_dead_lettered(&self) -> bool {
        self.came_to_rest && self.state.status == Status::Dead
    }

    /// Whether this process continues with the saga under the same claim. A call in a throttled queue needs a new
    /// claim, unless this saga is the probe.
    fn can_continue_here(&self, queues: &LocalQueues) -> bool {
        let queue = &self.job.queue;
        let may_call = self.job.slots.is_probe() || !queues.throttled.contains(queue);
        self.next == Next::Work
            && queues.open.contains(queue)
            && (may_call || self.kind() != Some(StepKind::Call))
    }

    pub(crate) fn update_row(&self, queues: &LocalQueues) -> SagaUpdate {
        let held = self.can_continue_here(queues);
        let state = &self.state;
        // An attempt that was left for another transaction is counted again by the next claim.
        let counted =
            if held { state.attempt.max(1) } else { state.attempt - u32::from(self.left).min(state.attempt) };
        SagaUpdate {
            id: self.job.saga_id.0,
            epoch: self.job.epoch,
            status: state.status.name(),
            step: self.step_name.clone(),
            direction: state.direction.name(),
            attempt: i32::try_from(counted).unwrap_or(i32::MAX),
            lost_attempts: i32::try_from(state.lost_attempts).unwrap_or(i32::MAX),
            in_doubt: state.in_doubt,
            seq: self.seq,
            held,
            snoozed: self.postponement.stored(),
            delay_ms: if self.next == Next::Wait { millis_up(self.delay) } else { 0 },
            wakes_at_deadline: state.status == Status::Running && can_compensate(self.graph, state),
            keeps_cancel: self.cancels.keeps_stored(),
            wait: self.wait_row(),
            result: self.result.as_ref().map(|result| result.stored().clone()),
            arms: state.arms.stored(),
            children: self.children_row(),
            cause: state.cause.as_ref().and_then(|cause| serde_json::to_string(cause).ok()),
            error: self.error.clone(),
        }
    }

    pub(crate) fn continuation(&self) -> Continuation {
        let state = State { attempt: self.state.attempt.max(1), ..self.state.clone() };
        Continuation {
            state,
            step: self.step_name.as_str().into(),
            history_seq: self.seq,
            values: self.values.clone(),
        }
    }
}

/// Rounds up, so that a short delay does not become zero.
fn millis_up(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(i64::MAX)
}
