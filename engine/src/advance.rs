//! Moves a set of claimed sagas as far as it can in one transaction: applies the results of calls, runs the steps that
//! follow as sets, one after the other, and writes history and new states under the fence.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::value::RawValue;
use sqlx::PgConnection;

use crate::{
    engine::Inner,
    erased::Answer,
    error::StepSetError,
    faults::{Fault, Place, Sabotage},
    graph::{Graph, Placement, StepKind},
    guard,
    job::{Job, Performed, PerformedKind},
    outcome::{Counts, Failure, Outcome, Retry},
    retry::RetryPolicy,
    saga::Definition,
    status::{Direction, Status},
    store::{
        self,
        moves::{Fenced, HistoryRow, MoveRow},
    },
    transition::{Event, Next, Refusal, State, transition},
    tx::{AfterCommit, Tx},
    view::{Ending, HistoryOutcome},
    watch::StatusChange,
};

/// How often an attempt may be lost with its process before a person is asked.
const MAX_LOSSES: u32 = 5;

/// One saga of the set, on its way.
#[derive(Debug)]
pub(crate) struct Track {
    pub(crate) job: Job,
    /// The result of a call, until it is applied.
    pub(crate) performed: Performed,
}

/// Why a set was not committed.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The database is away, or chose this transaction as a deadlock's victim: nobody's fault.
    Transient(sqlx::Error),
    /// The set at this place could not be done, or its outcome not be written.
    Step { at: Option<(Direction, usize)>, error: Vec<String>, connection: Connection },
}

/// Whether a connection can be used again after trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connection {
    Usable,
    /// User code was dropped, perhaps in the middle of a statement that this server process still works on.
    Midway {
        backend: i32,
    },
}

/// A step that is known to break for a saga that is now alone: it is not run again but answered for.
#[derive(Clone, Debug)]
pub(crate) struct Culprit {
    pub(crate) direction: Direction,
    pub(crate) at: usize,
    pub(crate) error: Vec<String>,
}

/// What a committed set came to.
#[derive(Debug, Default)]
pub(crate) struct Advanced {
    /// Sagas that go on with a call, claim kept, by their place in the set.
    pub(crate) going_on: Vec<(usize, Onward)>,
    /// Places in the set whose claim was lost.
    pub(crate) lost: Vec<usize>,
    /// The shortest wait of a saga that waits.
    pub(crate) next_due: Option<Duration>,
    pub(crate) after: AfterCommit,
    /// A test wants the process to die here.
    pub(crate) crash: Option<Fault>,
}

/// Where a saga stands that goes on with its claim kept.
#[derive(Debug)]
pub(crate) struct Onward {
    state: State,
    step: Arc<str>,
    history_seq: i32,
    values: Vec<Option<Arc<RawValue>>>,
}

impl Onward {
    /// Turns the job that led here into the next one; it keeps its claim and its room.
    pub(crate) fn job(self, job: Job) -> Job {
        let Self { state, step, history_seq, values } = self;
        Job { state, step, history_seq, values, ..job }
    }
}

/// A saga of the set with its working state; the job itself stays untouched until the commit.
struct Walker<'a> {
    place: usize,
    job: &'a Job,
    graph: &'a Graph,
    definition: Option<&'a Arc<Definition>>,
    state: State,
    next: Next,
    delay: Duration,
    step_name: String,
    values: Vec<Option<Arc<RawValue>>>,
    seq: i32,
    error: Option<String>,
    cancel: Option<(String, String)>,
    deadline_passed: bool,
    /// Whether the status was changed to one that watches are told of.
    rested: bool,
    crash: Option<Fault>,
}

/// Does it all but the commit, which is the caller's; see [`crate::lane`].
pub(crate) async fn advance(
    engine: &Inner,
    conn: &mut PgConnection,
    tracks: &[Track],
    culprit: Option<&Culprit>,
) -> Result<Advanced, Trouble> {
    let mut advanced = Advanced::default();
    let (mut walkers, backend) = enter(engine, conn, tracks, &mut advanced).await?;
    let mut tx = Tx::new(conn, engine);
    let mut rows = Vec::with_capacity(tracks.len() * 2);

    for walker in &mut walkers {
        let track = &tracks[walker.place];
        match &track.performed.kind {
            PerformedKind::Called { answer, started, took, crash } => {
                walker.crash.clone_from(crash);
                walker.answered(answer, *started, *took, &mut rows);
            }
            PerformedKind::InSet => walker.unfit(&mut rows),
        }
        walker.interrupted(&mut rows);
    }
    let mut last = None;
    while let Some((direction, at)) = next_set(&walkers) {
        last = Some((direction, at));
        run_set(&mut tx, &mut walkers, (direction, at), culprit, &mut rows, backend).await?;
    }

    let broken = |error: StepSetError| trouble(error, last);
    tell_watches(&mut tx, &walkers).await.map_err(broken)?;
    let worker = engine.worker;
    if !rows.is_empty() {
        store::moves::append_history(&mut tx, &rows, worker)
            .await
            .map_err(|error| trouble(error.into(), last))?;
    }
    let open = engine.feeds.open_queues();
    let moves: Vec<MoveRow> = walkers.iter().map(|walker| walker.row(&open)).collect();
    if !moves.is_empty() {
        let lease_ms = engine.lease_ms();
        let written = store::moves::move_sagas(&mut tx, &moves, worker, lease_ms)
            .await
            .map_err(|error| trouble(error.into(), last))?;
        if written != moves.len() as u64 && engine.sabotage() != Some(Sabotage::NoFence) {
            let error = format!("{written} of {} locked sagas were written", moves.len());
            return Err(Trouble::Step { at: last, error: vec![error], connection: Connection::Usable });
        }
    }
    bury(&mut tx, &walkers).await.map_err(|error| trouble(error.into(), last))?;

    let after = std::mem::take(&mut tx.after);
    finish(&walkers, &moves, after, &mut advanced);
    count(&rows, &walkers);
    Ok(advanced)
}

/// Locks the sagas that are still ours and sets out with them.
async fn enter<'a>(
    engine: &Inner,
    conn: &mut PgConnection,
    tracks: &'a [Track],
    advanced: &mut Advanced,
) -> Result<(Vec<Walker<'a>>, i32), Trouble> {
    let mut ids: Vec<_> = tracks.iter().map(|track| track.job.saga_id.0).collect();
    ids.sort_unstable();
    let unfenced = engine.sabotage() == Some(Sabotage::NoFence);
    let fenced = if unfenced {
        store::moves::no_fence(conn, &ids).await
    } else {
        store::moves::fence(conn, &ids, engine.worker).await
    };
    let fenced = fenced.map_err(|error| trouble(error.into(), None))?;
    let backend = fenced.first().map_or(0, |row| row.backend);
    let fenced: HashMap<_, Fenced> = fenced.into_iter().map(|row| (row.id, row)).collect();
    let mut walkers = Vec::with_capacity(tracks.len());
    for (place, track) in tracks.iter().enumerate() {
        let job = &track.job;
        let ours = fenced
            .get(&job.saga_id.0)
            .filter(|row| unfenced || (row.epoch == job.epoch && row.history_seq == job.history_seq));
        match ours {
            Some(row) => walkers.push(Walker::new(place, job, row)),
            None => advanced.lost.push(place),
        }
    }
    walkers.sort_by_key(|walker| walker.job.saga_id);
    Ok((walkers, backend))
}

/// The next set to run: forward first and the earliest step first, so that sagas behind catch up with those ahead.
fn next_set(walkers: &[Walker<'_>]) -> Option<(Direction, usize)> {
    let runnable = walkers.iter().filter(|walker| walker.runs_in_transaction());
    runnable.map(|walker| (walker.state.direction, walker.state.at)).min_by_key(|(direction, at)| {
        match direction {
            Direction::Action => (0, *at),
            Direction::Undo => (1, usize::MAX - *at),
        }
    })
}

async fn run_set(
    tx: &mut Tx<'_>,
    walkers: &mut [Walker<'_>],
    (direction, at): (Direction, usize),
    culprit: Option<&Culprit>,
    rows: &mut Vec<HistoryRow>,
    backend: i32,
) -> Result<(), Trouble> {
    let engine = tx.engine;
    let here = Some((direction, at));
    let mut standing: Vec<&mut Walker<'_>> = walkers
        .iter_mut()
        .filter(|walker| {
            walker.runs_in_transaction() && (walker.state.direction, walker.state.at) == (direction, at)
        })
        .collect();
    let Some(definition) = standing.first().and_then(|walker| walker.definition.cloned()) else {
        return Ok(());
    };
    let node = &definition.graph.steps[at];
    for walker in &mut standing {
        walker.begin();
    }
    let mut visits = Vec::with_capacity(standing.len());
    let mut answers: Vec<Option<Answer>> = Vec::with_capacity(standing.len());
    for walker in &mut standing {
        let answer = walker.foretold(engine, culprit);
        if answer.is_none() {
            visits.push(walker.visit());
        }
        answers.push(answer);
    }
    let started = Instant::now();
    let spans: Vec<_> = standing.iter().map(|walker| walker.span(engine)).collect();
    if !visits.is_empty() {
        metrics::histogram!("sagaline_set_size").record(visits.len() as f64);
        let policy = policy(&definition.graph, at, direction);
        let run = definition.actions[at].in_transaction(direction, tx, &visits);
        let ran = guard::guarded(policy.timeout, run).await;
        let mut ran = match ran {
            Ok(Ok(ran)) => ran.into_iter(),
            Ok(Err(error)) => return Err(trouble(error, here)),
            Err(broken) => {
                let error = vec![format!("step `{}` {broken}", node.name)];
                return Err(Trouble::Step { at: here, error, connection: Connection::Midway { backend } });
            }
        };
        for answer in &mut answers {
            if answer.is_none() {
                *answer = ran.next();
            }
        }
    }
    let took = started.elapsed();
    drop(spans);
    for (walker, answer) in standing.into_iter().zip(answers) {
        let answer = answer.unwrap_or_else(|| Answer::Unreadable("the step gave no answer".into()));
        walker.answered(&answer, started, took, rows);
        walker.interrupted(rows);
    }
    Ok(())
}

async fn tell_watches(tx: &mut Tx<'_>, walkers: &[Walker<'_>]) -> Result<(), StepSetError> {
    let mut by_definition: BTreeMap<&str, (&Arc<Definition>, Vec<StatusChange>)> = BTreeMap::new();
    for walker in walkers.iter().filter(|walker| walker.rested) {
        let Some(definition) = walker.definition.filter(|definition| definition.watch.is_some()) else {
            continue;
        };
        let Some(input) = walker.values.first().cloned().flatten() else { continue };
        let change = StatusChange {
            saga_id: walker.job.saga_id,
            input,
            status: walker.state.status,
            cause: walker.state.cause.clone(),
            error: walker.error.clone(),
        };
        by_definition
            .entry(&definition.graph.name)
            .or_insert_with(|| (definition, Vec::new()))
            .1
            .push(change);
    }
    for (definition, changes) in by_definition.into_values() {
        if let Some(watch) = &definition.watch {
            watch.changed(tx, &changes).await?;
        }
    }
    Ok(())
}

/// Files a dead job for every saga that was parked.
async fn bury(tx: &mut Tx<'_>, walkers: &[Walker<'_>]) -> Result<(), sqlx::Error> {
    let dead: Vec<uuid::Uuid> =
        walkers.iter().filter(|walker| walker.dies()).map(|walker| walker.job.saga_id.0).collect();
    if dead.is_empty() {
        return Ok(());
    }
    let ids: Vec<uuid::Uuid> = dead.iter().map(|_| uuid::Uuid::now_v7()).collect();
    store::dead_jobs::file(tx, &ids, &dead).await
}

fn finish(walkers: &[Walker<'_>], moves: &[MoveRow], after: AfterCommit, advanced: &mut Advanced) {
    advanced.after = after;
    for (walker, row) in walkers.iter().zip(moves) {
        advanced.crash = advanced.crash.take().or_else(|| walker.crash.clone());
        if walker.rested {
            let ending = Ending { status: walker.state.status, cause: walker.state.cause.clone() };
            advanced.after.ended.push((walker.job.saga_id, ending));
        } else if row.held {
            advanced.going_on.push((walker.place, walker.onward()));
        } else if walker.state.status.moves() {
            let sooner = advanced.next_due.map_or(walker.delay, |due| due.min(walker.delay));
            advanced.next_due = Some(sooner);
        }
    }
}

fn count(rows: &[HistoryRow], walkers: &[Walker<'_>]) {
    let definition_of: HashMap<_, _> =
        walkers.iter().map(|walker| (walker.job.saga_id.0, &walker.job.definition_name)).collect();
    let mut attempts: BTreeMap<(&str, &str, &str, &str), (u64, Duration)> = BTreeMap::new();
    for row in rows {
        let Some(definition) = definition_of.get(&row.saga_id) else { continue };
        let tally = attempts.entry((definition, &row.step, row.direction, row.outcome.name())).or_default();
        *tally = (tally.0 + 1, tally.1.max(row.duration));
    }
    for ((definition, step, direction, outcome), (count, longest)) in attempts {
        let labels = [
            ("definition", definition.to_owned()),
            ("step", step.to_owned()),
            ("direction", direction.to_owned()),
            ("outcome", outcome.to_owned()),
        ];
        metrics::counter!("sagaline_step_attempts_total", &labels).increment(count);
        // One set took one time: it is recorded once, not once a saga.
        metrics::histogram!("sagaline_step_duration_seconds", &labels[..3]).record(longest.as_secs_f64());
    }
    let mut outcomes: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for walker in walkers.iter().filter(|walker| walker.rested) {
        *outcomes.entry((&walker.job.definition_name, walker.state.status.name())).or_default() += 1;
    }
    for ((definition, outcome), count) in outcomes {
        let labels = [("definition", definition.to_owned()), ("outcome", outcome.to_owned())];
        metrics::counter!("sagaline_sagas_ended_total", &labels).increment(count);
    }
}

fn policy(graph: &Graph, at: usize, direction: Direction) -> RetryPolicy {
    match (graph.steps.get(at), direction) {
        (Some(node), Direction::Action) => node.retry,
        (Some(node), Direction::Undo) => node.undo_retry,
        (None, _) => RetryPolicy::CALL,
    }
}

/// Sorts an error by whose fault it is.
fn trouble(error: StepSetError, at: Option<(Direction, usize)>) -> Trouble {
    match error {
        StepSetError::Database(error) if is_transient(&error) => Trouble::Transient(error),
        other => Trouble::Step { at, error: crate::outcome::chain(&other), connection: Connection::Usable },
    }
}

/// Whether the same statement may well succeed later: connection trouble, deadlocks, serialisation failures, a server
/// that starts or stops, and a full one.
pub(crate) fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            matches!(
                code.as_ref(),
                "40001" | "40P01" | "55P03" | "25P03" | "25006" | "57P01" | "57P02" | "57P03"
            ) || code.starts_with("08")
                || code.starts_with("53")
        }),
        _ => false,
    }
}

impl<'a> Walker<'a> {
    fn new(place: usize, job: &'a Job, row: &Fenced) -> Self {
        let text =
            |field: &str| row.cancel.as_ref().and_then(|cancel| cancel[field].as_str()).map(str::to_owned);
        Self {
            place,
            job,
            graph: job.graph().unwrap_or(&NO_GRAPH),
            definition: job.definition.as_ref(),
            state: job.state.clone(),
            next: Next::Work,
            delay: Duration::ZERO,
            step_name: job.step.to_string(),
            values: job.values.clone(),
            seq: row.history_seq,
            error: None,
            cancel: text("actor").zip(text("reason")),
            deadline_passed: row.deadline_passed,
            rested: false,
            crash: None,
        }
    }

    fn runs_in_transaction(&self) -> bool {
        self.next == Next::Work && self.kind() == Some(StepKind::Transaction)
    }

    fn kind(&self) -> Option<StepKind> {
        self.graph.steps.get(self.state.at).map(|node| node.kind)
    }

    fn policy(&self) -> RetryPolicy {
        policy(self.graph, self.state.at, self.state.direction)
    }

    /// Counts the attempt, unless the claim has done so.
    fn begin(&mut self) {
        if self.state.attempt == 0 {
            self.apply(&Event::Begun);
        }
    }

    /// A saga that this process can't work on, and one that keeps killing its process.
    fn unfit(&mut self, rows: &mut Vec<HistoryRow>) {
        if self.state.losses >= MAX_LOSSES {
            let error = format!("its process vanished {} times in a row during this step", self.state.losses);
            self.park(error, rows);
        } else if self.kind().is_none() {
            let missing = match self.definition {
                None => format!("no saga is named `{}` in this process", self.job.definition_name),
                Some(_) => format!(
                    "saga `{}` has no step `{}` in this process",
                    self.job.definition_name, self.job.step
                ),
            };
            // Another process may know it (a rolling deployment), so it is tried again before a person is asked.
            if self.state.attempt >= RetryPolicy::CALL.attempts {
                self.park(missing, rows);
            } else {
                let started = Instant::now();
                self.record(HistoryOutcome::Retry, None, vec![missing], started, Duration::ZERO, rows);
                self.delay = RetryPolicy::CALL.delay(self.state.attempt, rand::random());
                self.apply(&Event::Retry(Counts::AsAttempt));
            }
        } else if self.kind() == Some(StepKind::Call) {
            self.park(format!("`{}` is a call step, but was not performed", self.job.step), rows);
        }
    }

    fn park(&mut self, error: String, rows: &mut Vec<HistoryRow>) {
        self.record(HistoryOutcome::Parked, None, vec![error], Instant::now(), Duration::ZERO, rows);
        self.apply(&Event::Parked);
    }

    /// Applies a cancel or a deadline, between two attempts.
    fn interrupted(&mut self, rows: &mut Vec<HistoryRow>) {
        if self.state.status != Status::Running || self.next == Next::Rest {
            return;
        }
        let (event, outcome, why) = if let Some((actor, reason)) = self.cancel.take() {
            let why = vec![format!("cancelled by {actor}: {reason}")];
            (Event::Cancel { actor, reason }, HistoryOutcome::Cancelled, why)
        } else if self.deadline_passed {
            (Event::DeadlinePassed, HistoryOutcome::DeadlinePassed, vec!["the deadline passed".into()])
        } else {
            return;
        };
        match transition(self.graph, &self.state, &event) {
            Ok(_) => {
                self.record(outcome, None, why, Instant::now(), Duration::ZERO, rows);
                self.apply(&event);
            }
            // Too late for it: the saga goes on, as the caller of cancel can read off its status.
            Err(Refusal::PastPivot | Refusal::AlreadyUnwinding | Refusal::Ended | Refusal::Impossible) => {}
        }
    }

    /// What is known to come out without running the step.
    fn foretold(&mut self, engine: &Inner, culprit: Option<&Culprit>) -> Option<Answer> {
        if let Some(culprit) = culprit
            && (culprit.direction, culprit.at) == (self.state.direction, self.state.at)
        {
            let retry = Retry { after: None, counts: Counts::AsAttempt, error: culprit.error.clone() };
            return Some(Answer::Outcome(Outcome::Retry(retry)));
        }
        if self.state.direction == Direction::Undo && engine.sabotage() == Some(Sabotage::ForgottenUndo) {
            return Some(Answer::done(None));
        }
        let fault = engine.fault(self.job.saga_id, self.place_name(), self.state.attempt)?;
        match fault {
            Fault::Fail(failure) => Some(Answer::Outcome(Outcome::Fail(failure))),
            Fault::Retry(error) => Some(Answer::Outcome(Outcome::Retry(Retry::message(error)))),
            Fault::Hold(delay) => {
                Some(Answer::Outcome(Outcome::Retry(Retry::postpone(delay, "held by a test"))))
            }
            Fault::CrashBeforeCommit | Fault::CrashAfterCommit => {
                self.crash = Some(fault);
                None
            }
        }
    }

    fn place_name(&self) -> Place {
        Place {
            definition: self.job.definition_name.to_string(),
            step: self.step_name.clone(),
            direction: self.state.direction,
        }
    }

    fn visit(&self) -> crate::erased::Visit {
        crate::erased::Visit {
            saga_id: self.job.saga_id,
            step: self.step_name.clone(),
            attempt: self.state.attempt,
            values: self.values.clone(),
            cause: self.state.cause.clone(),
            trace: self.job.trace.clone(),
            salt: None,
        }
    }

    fn span(&self, engine: &Inner) -> tracing::Span {
        engine.step_span(
            self.job.saga_id,
            &self.job.definition_name,
            &self.step_name,
            self.state.direction,
            self.state.attempt,
            self.job.trace.as_deref(),
        )
    }

    /// Applies a step's answer.
    fn answered(&mut self, answer: &Answer, started: Instant, took: Duration, rows: &mut Vec<HistoryRow>) {
        match answer {
            Answer::Unreadable(reason) => self.park(reason.clone(), rows),
            Answer::Outcome(Outcome::Done(output)) => {
                self.record(HistoryOutcome::Done, output.clone(), Vec::new(), started, took, rows);
                if self.state.direction == Direction::Action {
                    let own_place = self.state.at + 1;
                    if self.values.len() <= own_place {
                        self.values.resize(own_place + 1, None);
                    }
                    self.values[own_place].clone_from(output);
                }
                self.apply(&Event::Done);
            }
            Answer::Outcome(Outcome::Retry(retry)) => self.retried(retry, started, took, rows),
            Answer::Outcome(Outcome::Fail(failure)) => {
                let error = vec![format!("{} ({})", failure.message, failure.code)];
                self.record(HistoryOutcome::Failed, None, error, started, took, rows);
                self.apply(&Event::Failed(failure.clone()));
            }
        }
    }

    fn retried(&mut self, retry: &Retry, started: Instant, took: Duration, rows: &mut Vec<HistoryRow>) {
        let policy = self.policy();
        let exhausted = retry.counts == Counts::AsAttempt && self.state.attempt >= policy.attempts;
        if exhausted {
            let last = retry.error.first().cloned().unwrap_or_else(|| "no reason given".into());
            self.record(HistoryOutcome::Exhausted, None, retry.error.clone(), started, took, rows);
            let message = format!("gave up after {} attempts; the last: {last}", self.state.attempt);
            self.apply(&Event::Exhausted(Failure::new("attempts-exhausted", message)));
            return;
        }
        let outcome = match retry.counts {
            Counts::AsAttempt => HistoryOutcome::Retry,
            Counts::AsPostponement => HistoryOutcome::Postponed,
        };
        self.record(outcome, None, retry.error.clone(), started, took, rows);
        self.delay = retry.after.unwrap_or_else(|| policy.delay(self.state.attempt, rand::random()));
        self.apply(&Event::Retry(retry.counts));
    }

    fn apply(&mut self, event: &Event) {
        match transition(self.graph, &self.state, event) {
            Ok((state, next)) => {
                self.rested = self.state.status.moves() && !state.status.moves();
                let moved = state.at != self.state.at || state.direction != self.state.direction;
                if moved && let Some(node) = self.graph.steps.get(state.at) {
                    self.step_name.clone_from(&node.name);
                }
                if matches!(event, Event::Done) {
                    self.error = None;
                }
                (self.state, self.next) = (state, next);
            }
            Err(refusal) => tracing::error!(
                saga.id = %self.job.saga_id, event = ?event, state = ?self.state, error = %refusal,
                "a saga met an event that its state has no place for; it was left as it is"
            ),
        }
    }

    fn record(
        &mut self,
        outcome: HistoryOutcome,
        output: Option<Arc<RawValue>>,
        error: Vec<String>,
        started: Instant,
        took: Duration,
        rows: &mut Vec<HistoryRow>,
    ) {
        self.seq += 1;
        if let Some(first) = error.first() {
            self.error = Some(first.clone());
        }
        rows.push(HistoryRow {
            saga_id: self.job.saga_id.0,
            seq: self.seq,
            step: self.step_name.clone(),
            direction: self.state.direction.name(),
            outcome,
            attempt: i32::try_from(self.state.attempt).unwrap_or(i32::MAX),
            started,
            duration: took,
            output,
            error,
            epoch: self.job.epoch,
        });
    }

    fn dies(&self) -> bool {
        self.rested && self.state.status == Status::Dead
    }

    fn row(&self, open_queues: &crate::feed::OpenQueues) -> MoveRow {
        let held = self.next == Next::Work && open_queues.contains(&self.job.queue);
        let state = &self.state;
        let placement = self.graph.steps.get(state.at).map(|node| node.placement);
        let counted = if held { state.attempt.max(1) } else { state.attempt };
        MoveRow {
            id: self.job.saga_id.0,
            epoch: self.job.epoch,
            status: state.status.name(),
            step: self.step_name.clone(),
            direction: state.direction.name(),
            attempt: i32::try_from(counted).unwrap_or(i32::MAX),
            losses: i32::try_from(state.losses).unwrap_or(i32::MAX),
            in_doubt: state.in_doubt,
            seq: self.seq,
            held,
            delay_ms: if self.next == Next::Wait { millis_up(self.delay) } else { 0 },
            heeds_deadline: state.status == Status::Running && placement != Some(Placement::AfterPivot),
            cause: state.cause.as_ref().and_then(|cause| serde_json::to_string(cause).ok()),
            error: self.error.clone(),
        }
    }

    fn onward(&self) -> Onward {
        let state = State { attempt: self.state.attempt.max(1), ..self.state.clone() };
        Onward {
            state,
            step: self.step_name.as_str().into(),
            history_seq: self.seq,
            values: self.values.clone(),
        }
    }
}

/// Stands in for the graph of a definition that this process does not know.
pub(crate) static NO_GRAPH: Graph = Graph {
    name: String::new(),
    queue: String::new(),
    deadline: None,
    steps: Vec::new(),
    hash: String::new(),
};

/// Rounds up, so that a wait is never cut short to nothing.
fn millis_up(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(i64::MAX)
}
