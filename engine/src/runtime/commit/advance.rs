//! Moves a batch of claimed sagas as far as it can in one transaction: applies the results of calls, runs the steps that
//! follow as batches, one after the other, and writes history and new states under the fence.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::value::RawValue;
use sqlx::PgConnection;

use crate::{
    definition::{
        erased::StepAnswer,
        observer::StatusChange,
        saga::Definition,
        tx::{CommitEffects, Tx},
    },
    engine::Core,
    model::{status::Direction, transition::State, views::FinalStatus},
    runtime::{
        commit::{
            batch_metrics::BatchMetrics,
            cursor::SagaCursor,
            dead_letter::{self, Notice},
            error::{CommitError, classify},
            group_commit::CommitPath,
        },
        job::{Job, Performed, PerformedKind},
    },
    store::{
        self,
        commits::{FencedSaga, HistoryRow, SagaUpdate},
    },
    support::{
        faults::{DisabledGuard, Fault},
        user_code,
    },
};

/// One saga of the batch, on its way.
#[derive(Debug)]
pub(crate) struct BatchMember {
    pub(crate) job: Job,
    /// The result of a call, until it is applied.
    pub(crate) performed: Performed,
}

impl BatchMember {
    /// Whether the outside world was called.
    pub(crate) fn made_call(&self) -> bool {
        matches!(self.performed.kind, PerformedKind::Called { .. })
    }

    /// Where it was called.
    pub(crate) fn call_site(&self) -> Option<(Direction, usize)> {
        self.made_call().then_some((self.job.state.direction, self.job.state.at))
    }
}

/// What is done about a saga that is now alone and still can't be committed.
#[derive(Clone, Debug, Default)]
pub(crate) enum Recovery {
    /// Nothing yet.
    #[default]
    None,
    /// These steps are known to break: they are not run again but answered for, each as a failed attempt.
    FailSteps(Vec<FailedStep>),
    /// Blaming did not help either: the saga is parked with this error, and no observer is told, lest it be the one that
    /// breaks.
    DeadLetter(Vec<String>),
}

/// A step that is known to break.
#[derive(Clone, Debug)]
pub(crate) struct FailedStep {
    pub(crate) direction: Direction,
    pub(crate) at: usize,
    pub(crate) error: Vec<String>,
}

impl Recovery {
    /// The next recovery, given that this one failed at `at`; `None` when there is none left.
    pub(crate) fn next(self, at: Option<(Direction, usize)>, error: Vec<String>) -> Option<Self> {
        let known = |failed: &[FailedStep], (direction, at): (Direction, usize)| {
            failed.iter().any(|step| (step.direction, step.at) == (direction, at))
        };
        let mut failed = match self {
            Self::None => Vec::new(),
            Self::FailSteps(failed) => failed,
            Self::DeadLetter(_) => return None,
        };
        let Some((direction, at)) = at.filter(|at| !known(&failed, *at)) else {
            return Some(Self::DeadLetter(error));
        };
        failed.push(FailedStep { direction, at, error });
        Some(Self::FailSteps(failed))
    }

    /// The error that a step is blamed for.
    pub(crate) fn error_for(&self, direction: Direction, at: usize) -> Option<&[String]> {
        let Self::FailSteps(failed) = self else { return None };
        let step = failed.iter().find(|step| (step.direction, step.at) == (direction, at));
        step.map(|step| step.error.as_slice())
    }
}

/// What a committed batch came to.
#[derive(Debug, Default)]
pub(crate) struct BatchResult {
    /// Sagas that go on with a call, claim kept, by their place in the batch.
    pub(crate) continuing: Vec<(usize, Continuation)>,
    /// Indexes in the batch whose claim was lost.
    pub(crate) lost: Vec<usize>,
    /// The shortest wait of a saga that waits.
    pub(crate) next_due: Option<Duration>,
    pub(crate) after: CommitEffects,
    pub(crate) metrics: BatchMetrics,
    /// A test wants the process to die here.
    pub(crate) crash: Option<Fault>,
}

/// Where a saga stands that goes on with its claim kept.
#[derive(Debug)]
pub(crate) struct Continuation {
    pub(crate) state: State,
    pub(crate) step: Arc<str>,
    pub(crate) history_seq: i32,
    pub(crate) values: Vec<Option<Arc<RawValue>>>,
}

impl Continuation {
    /// Turns the job that led here into the next one; it keeps its claim and its room.
    pub(crate) fn job(self, job: Job) -> Job {
        let Self { state, step, history_seq, values } = self;
        Job { state, step, history_seq, values, interrupted: false, ..job }
    }
}
/// Does it all but the commit, which is the caller's; see [`crate::runtime::commit::group_commit`].
pub(crate) async fn advance(
    core: &Core,
    conn: &mut PgConnection,
    members: &[BatchMember],
    recovery: &Recovery,
    path: CommitPath,
    backend: &mut Option<i32>,
) -> Result<BatchResult, CommitError> {
    let began = Instant::now();
    let mut result = BatchResult::default();
    let mut cursors = enter(core, conn, members, &mut result, backend).await?;
    let mut tx = Tx::new(conn, core);
    let mut rows = Vec::with_capacity(members.len() * 2);

    for cursor in &mut cursors {
        let member = &members[cursor.index];
        if let Recovery::DeadLetter(error) = recovery {
            cursor.park_unwritable(error, &mut rows);
            continue;
        }
        match &member.performed.kind {
            PerformedKind::Called { answer, started, took, crash } => {
                cursor.crash.clone_from(crash);
                let blamed = cursor.forced_answer(recovery);
                cursor.apply_answer(blamed.as_ref().unwrap_or(answer), *started, *took, &mut rows);
            }
            PerformedKind::InBatch => cursor.park_if_unrunnable(&mut rows),
        }
        cursor.apply_cancel_or_deadline(&mut rows);
    }
    let mut last = None;
    // Who has not come to the end by then goes on in a transaction of its own, with a fresh lease.
    let turn = core.settings.batch_time_limit();
    while began.elapsed() < turn
        && let Some((direction, at)) = next_batch(&cursors)
    {
        last = Some((direction, at));
        run_batch(&mut tx, &mut cursors, (direction, at), (recovery, path), &mut rows).await?;
    }

    if !matches!(recovery, Recovery::DeadLetter(_)) {
        notify_observers(&mut tx, &cursors, last).await?;
    }
    let worker = core.worker;
    if !rows.is_empty() {
        store::commits::append_history(&mut tx, &rows, worker)
            .await
            .map_err(|error| classify(error.into(), last))?;
    }
    let queues = core.feeds.local_queues();
    let moves: Vec<SagaUpdate> = cursors.iter().map(|cursor| cursor.update_row(&queues)).collect();
    if !moves.is_empty() {
        let lease_ms = core.lease_ms();
        let written = store::commits::update_sagas(&mut tx, &moves, worker, lease_ms)
            .await
            .map_err(|error| classify(error.into(), last))?;
        if written != moves.len() as u64 && core.disabled_guard() != Some(DisabledGuard::Fence) {
            let error = format!("{written} of {} locked sagas were written", moves.len());
            return Err(CommitError::Step { at: last, error: vec![error], cancelled_mid_statement: false });
        }
    }
    bury(&mut tx, &cursors, recovery, last).await?;

    let after = std::mem::take(&mut tx.after);
    finish(&cursors, &moves, after, &mut result);
    result.metrics = BatchMetrics::of(&rows, &cursors);
    Ok(result)
}

/// Locks the sagas that are still ours and sets out with them.
async fn enter<'a>(
    core: &Core,
    conn: &mut PgConnection,
    members: &'a [BatchMember],
    result: &mut BatchResult,
    backend: &mut Option<i32>,
) -> Result<Vec<SagaCursor<'a>>, CommitError> {
    let mut ids: Vec<_> = members.iter().map(|member| member.job.saga_id.0).collect();
    ids.sort_unstable();
    let unfenced = core.disabled_guard() == Some(DisabledGuard::Fence);
    let fenced = if unfenced {
        store::commits::no_fence(conn, &ids).await
    } else {
        store::commits::fence(conn, &ids, core.worker).await
    };
    let fenced = fenced.map_err(|error| classify(error.into(), None))?;
    *backend = fenced.first().map(|row| row.backend);
    let fenced: HashMap<_, FencedSaga> = fenced.into_iter().map(|row| (row.id, row)).collect();
    let mut cursors = Vec::with_capacity(members.len());
    for (index, member) in members.iter().enumerate() {
        let job = &member.job;
        let ours = fenced
            .get(&job.saga_id.0)
            .filter(|row| unfenced || (row.epoch == job.epoch && row.history_seq == job.history_seq));
        match ours {
            Some(row) => cursors.push(SagaCursor::new(index, job, row)),
            None => result.lost.push(index),
        }
    }
    cursors.sort_by_key(|cursor| cursor.job.saga_id);
    Ok(cursors)
}

/// The next set to run: forward first and the earliest step first, so that sagas behind catch up with those ahead.
fn next_batch(cursors: &[SagaCursor<'_>]) -> Option<(Direction, usize)> {
    let runnable = cursors.iter().filter(|cursor| cursor.runs_in_transaction());
    runnable.map(|cursor| (cursor.state.direction, cursor.state.at)).min_by_key(|(direction, at)| {
        match direction {
            Direction::Action => (0, *at),
            Direction::Undo => (1, usize::MAX - *at),
        }
    })
}

async fn run_batch(
    tx: &mut Tx<'_>,
    cursors: &mut [SagaCursor<'_>],
    (direction, at): (Direction, usize),
    (recovery, path): (&Recovery, CommitPath),
    rows: &mut Vec<HistoryRow>,
) -> Result<(), CommitError> {
    let core = tx.core;
    let here = Some((direction, at));
    let mut standing: Vec<&mut SagaCursor<'_>> = cursors
        .iter_mut()
        .filter(|cursor| {
            cursor.runs_in_transaction() && (cursor.state.direction, cursor.state.at) == (direction, at)
        })
        .collect();
    let Some(definition) = standing.first().and_then(|cursor| cursor.definition.cloned()) else {
        return Ok(());
    };
    let node = &definition.graph.steps[at];
    for cursor in &mut standing {
        cursor.begin();
    }
    let mut invocations = Vec::with_capacity(standing.len());
    let mut answers: Vec<Option<StepAnswer>> = Vec::with_capacity(standing.len());
    for cursor in &mut standing {
        let answer = cursor.predetermined_answer(core, recovery);
        if answer.is_none() {
            invocations.push(cursor.invocation());
        }
        answers.push(answer);
    }
    let started = Instant::now();
    let spans: Vec<_> = standing.iter().map(|cursor| cursor.span(core)).collect();
    if !invocations.is_empty() {
        metrics::histogram!("sagaline_set_size")
            .record(f64::from(u32::try_from(invocations.len()).unwrap_or(u32::MAX)));
        let policy = definition.graph.policy(at, direction);
        let run = definition.actions[at].in_transaction(direction, tx, &invocations);
        // Alone and aside it harms nobody, and has the time that its policy gives it.
        let limit = match path {
            CommitPath::Isolated if invocations.len() == 1 => policy.timeout,
            CommitPath::Isolated | CommitPath::Grouped => {
                policy.timeout.min(core.settings.batch_time_limit())
            }
        };
        let ran = user_code::run_user_code(limit, run).await;
        let mut ran = match ran {
            Ok(Ok(ran)) => ran.into_iter(),
            Ok(Err(error)) => return Err(classify(error, here)),
            Err(broken) => {
                let error = vec![format!("step `{}` {broken}", node.name)];
                return Err(CommitError::Step { at: here, error, cancelled_mid_statement: true });
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
    for (cursor, answer) in standing.into_iter().zip(answers) {
        let answer = answer.unwrap_or_else(|| StepAnswer::InputUnreadable("the step gave no answer".into()));
        cursor.apply_answer(&answer, started, took, rows);
        cursor.apply_cancel_or_deadline(rows);
    }
    Ok(())
}

async fn notify_observers(
    tx: &mut Tx<'_>,
    cursors: &[SagaCursor<'_>],
    last: Option<(Direction, usize)>,
) -> Result<(), CommitError> {
    let limit = tx.core.settings.batch_time_limit();
    let mut by_definition: BTreeMap<&str, (&Arc<Definition>, Vec<StatusChange>)> = BTreeMap::new();
    for cursor in cursors.iter().filter(|cursor| cursor.came_to_rest) {
        let Some(definition) = cursor.definition.filter(|definition| definition.observer.is_some()) else {
            continue;
        };
        let Some(input) = cursor.values.first().cloned().flatten() else { continue };
        let change = StatusChange {
            saga_id: cursor.job.saga_id,
            input,
            status: cursor.state.status,
            cause: cursor.state.cause.clone(),
            error: cursor.error.clone(),
        };
        by_definition
            .entry(&definition.graph.name)
            .or_insert_with(|| (definition, Vec::new()))
            .1
            .push(change);
    }
    for (definition, changes) in by_definition.into_values() {
        if let Some(observer) = &definition.observer {
            match user_code::run_user_code(limit, observer.status_changed(tx, &changes)).await {
                Ok(notified) => notified.map_err(|error| classify(error, last))?,
                Err(broken) => {
                    let error = vec![format!("the observer of `{}` {broken}", definition.graph.name)];
                    return Err(CommitError::Step { at: last, error, cancelled_mid_statement: true });
                }
            }
        }
    }
    Ok(())
}

/// Files a dead job for every saga that was parked.
async fn bury(
    tx: &mut Tx<'_>,
    cursors: &[SagaCursor<'_>],
    recovery: &Recovery,
    last: Option<(Direction, usize)>,
) -> Result<(), CommitError> {
    let dead: Vec<uuid::Uuid> = cursors
        .iter()
        .filter(|cursor| cursor.is_dead_lettered())
        .map(|cursor| cursor.job.saga_id.0)
        .collect();
    let notice = match recovery {
        Recovery::DeadLetter(_) => Notice::BestEffort,
        Recovery::None | Recovery::FailSteps(_) => Notice::Required,
    };
    dead_letter::dead_letter(tx, &dead, notice).await.map_err(|error| match classify(error, last) {
        CommitError::Step { at, error, .. } => {
            CommitError::Step { at, error, cancelled_mid_statement: tx.course.cancelled_mid_statement }
        }
        other @ (CommitError::Transient(_) | CommitError::LockTimeout(_)) => other,
    })
}

fn finish(cursors: &[SagaCursor<'_>], moves: &[SagaUpdate], after: CommitEffects, result: &mut BatchResult) {
    result.after = after;
    for (cursor, row) in cursors.iter().zip(moves) {
        result.crash = result.crash.take().or_else(|| cursor.crash.clone());
        if cursor.came_to_rest {
            let ending = FinalStatus { status: cursor.state.status, cause: cursor.state.cause.clone() };
            result.after.ended.push((cursor.job.saga_id, ending));
        } else if row.held {
            result.continuing.push((cursor.index, cursor.continuation()));
        } else if cursor.state.status.is_active() {
            let sooner = result.next_due.map_or(cursor.delay, |due| due.min(cursor.delay));
            result.next_due = Some(sooner);
        }
    }
}
