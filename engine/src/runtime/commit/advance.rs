//! Moves a batch of claimed sagas as far as it can in one transaction: applies the results of calls, runs the steps
//! that follow as batches, one after the other, and writes history and new states under the fence.

use std::{
    collections::HashMap,
    sync::Arc,
    sync::atomic::{AtomicI32, Ordering},
    time::{Duration, Instant},
};

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    definition::{invocation::Invocation, saga::Definition, step_answer::StepAnswer},
    model::{
        ids::SagaId,
        status::{Direction, Status, StepSide},
    },
    runtime::{
        commit::{
            batch_metrics::BatchMetrics,
            children,
            children_room::Room,
            commit_path::CommitPath,
            continuation::Continuation,
            cursor::SagaCursor,
            dead_letter::{Notice, dead_letter},
            error::{CommitError, classify, classify_fence, classify_write},
            interruption,
            observers::notify_observers,
            recovery::Recovery,
            waits,
        },
        core::Core,
        effects::{CommitEffects, Session},
        job::PerformedKind,
        messages::BatchMember,
        step_run::{self, Rest, StepRun, StepRunError},
    },
    store::{
        self,
        commits::{FencedSaga, HistoryRow, SagaUpdate},
    },
    support::faults::CrashPoint,
};

/// The result of a committed batch.
#[derive(Debug, Default)]
pub(crate) struct BatchResult {
    /// Sagas that continue with a call under the same claim, by their index in the batch.
    pub(crate) continuing: Vec<(usize, Continuation)>,
    /// Members whose claim was lost, by their index in the batch.
    pub(crate) lost: Vec<usize>,
    /// The shortest delay of a saga that has to wait.
    pub(crate) next_due: Option<Duration>,
    pub(crate) effects: CommitEffects,
    pub(crate) metrics: BatchMetrics,
    /// The last side of a step whose code ran in the transaction: the one at fault if the commit fails.
    pub(crate) last_run: Option<StepSide>,
    /// Where a test wants the process to crash.
    pub(crate) crash: CrashPoint,
}

/// Runs everything but the commit, which the caller does. Sets `backend_pid` to the PID of the connection's server
/// process as soon as it is known.
pub(crate) async fn advance(
    core: &Core,
    conn: &mut PgConnection,
    members: &[BatchMember],
    recovery: &Recovery,
    path: CommitPath,
    backend_pid: &AtomicI32,
) -> Result<BatchResult, CommitError> {
    let began = Instant::now();
    let mut result = BatchResult::default();
    let mut cursors = lock(core, conn, members, recovery, &mut result, backend_pid).await?;
    let mut session = Session::new(core);
    let mut history = Vec::with_capacity(members.len() * 2);

    for cursor in &mut cursors {
        let member = &members[cursor.index];
        if let Recovery::DeadLetter(error) = recovery {
            cursor.dead_letter_unwritable(error, &mut history);
            continue;
        }
        match &member.performed.kind {
            PerformedKind::Called { answer, started, took, crash } => {
                cursor.crash = *crash;
                let forced = cursor.forced_answer(recovery);
                cursor.apply_answer(forced.as_ref().unwrap_or(answer), *started, *took, &mut history);
            }
            PerformedKind::InBatch | PerformedKind::NotCalled => {
                cursor.dead_letter_if_unrunnable(&mut history);
            }
        }
    }
    let (mut last, mut room) = (None, Room::new(path, cursors.len()));
    if !matches!(recovery, Recovery::DeadLetter(_)) {
        interrupt_or_wait(&mut session, conn, &mut cursors, (recovery, &mut room, last), &mut history)
            .await?;
    }
    // Sagas that are not finished when the limit is reached continue in another transaction, with a fresh lease.
    let limit = core.settings.batch_time_limit();
    while began.elapsed() < limit
        && let Some(side) = next_batch(&cursors)
    {
        if run_batch(&mut session, conn, &mut cursors, side, (recovery, path), &mut history).await? {
            last = Some(side);
        }
        interrupt_or_wait(&mut session, conn, &mut cursors, (recovery, &mut room, last), &mut history)
            .await?;
    }

    session.savepoints.release(conn).map_err(|error| classify(error.into(), last))?;
    if !matches!(recovery, Recovery::DeadLetter(_)) {
        let limit = core.settings.max_payload;
        for cursor in &mut cursors {
            cursor.decide_cancels();
            cursor.take_result(limit);
        }
        notify_observers(&mut session, conn, &cursors, last).await?;
        interruption::settle_messages(conn, &cursors).await.map_err(|error| classify_write(error, last))?;
        waits::settle(conn, &cursors).await.map_err(|error| classify_write(error, last))?;
    }
    if !history.is_empty() {
        store::history_runs::append(conn, &history, core.worker)
            .await
            .map_err(|error| classify_write(error, last))?;
    }
    let queues = core.feeds.local_queues();
    let updates: Vec<SagaUpdate> = cursors.iter().map(|cursor| cursor.update_row(&queues)).collect();
    write_updates(core, conn, &updates, last).await?;
    dead_letter_batch(&mut session, conn, &cursors, recovery, last).await?;

    finish(&cursors, &updates, session.effects, &mut result);
    result.last_run = last;
    result.metrics = BatchMetrics::of(&history, &cursors);
    Ok(result)
}

/// Locks the sagas whose claim this process still holds, and creates a cursor for each, with the cancels for it.
async fn lock<'a>(
    core: &Core,
    conn: &mut PgConnection,
    members: &'a [BatchMember],
    recovery: &Recovery,
    result: &mut BatchResult,
    backend_pid: &AtomicI32,
) -> Result<Vec<SagaCursor<'a>>, CommitError> {
    let mut ids: Vec<_> = members.iter().map(|member| member.job.saga_id.0).collect();
    ids.sort_unstable();
    let unfenced = core.faults.is_fence_disabled();
    let fenced = fence(core, conn, &ids).await.map_err(classify_fence)?;
    if let Some(row) = fenced.first() {
        backend_pid.store(row.backend, Ordering::Relaxed);
    }
    let have_messages = fenced.iter().any(|row| row.has_message);
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
    if have_messages && !matches!(recovery, Recovery::DeadLetter(_)) {
        interruption::read_messages(conn, &mut cursors, &ids).await.map_err(classify_fence)?;
    }
    Ok(cursors)
}

async fn fence(core: &Core, conn: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<FencedSaga>, sqlx::Error> {
    #[cfg(feature = "testing")]
    if core.faults.is_fence_disabled() {
        return store::testing::no_fence(conn, ids).await;
    }
    store::commits::fence(conn, ids, core.worker).await
}

/// Chooses the side of a step to run next: actions before undos, and the earliest step first, so that sagas that are
/// further behind catch up.
fn next_batch(cursors: &[SagaCursor<'_>]) -> Option<StepSide> {
    let runnable = cursors.iter().filter(|cursor| cursor.runs_in_transaction());
    runnable.map(|cursor| cursor.state.side()).min_by_key(|side| match side.direction {
        Direction::Action => (0, side.step_index),
        Direction::Undo => (1, usize::MAX - side.step_index),
    })
}

/// Runs one side of one step for all sagas that have reached it, and applies their answers. Returns whether the step's
/// code ran.
async fn run_batch(
    session: &mut Session<'_>,
    conn: &mut PgConnection,
    cursors: &mut [SagaCursor<'_>],
    side: StepSide,
    (recovery, path): (&Recovery, CommitPath),
    history: &mut Vec<HistoryRow>,
) -> Result<bool, CommitError> {
    let core = session.core;
    let mut standing: Vec<&mut SagaCursor<'_>> = cursors
        .iter_mut()
        .filter(|cursor| cursor.runs_in_transaction() && cursor.state.side() == side)
        .collect();
    let Some(definition) = standing.first().map(|cursor| cursor.definition.clone()) else {
        return Ok(false);
    };
    // The same index is another step in another graph. A saga of one has its turn in the next round.
    standing.retain(|cursor| Arc::ptr_eq(cursor.definition, &definition));
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
    let runs = !invocations.is_empty();
    if runs {
        let ran = run_step(session, conn, &definition, side, path, &invocations).await?;
        let mut ran = ran.into_iter();
        for answer in &mut answers {
            if answer.is_none() {
                *answer = ran.next();
            }
        }
    }
    let took = started.elapsed();
    drop((spans, invocations));
    for (cursor, answer) in standing.into_iter().zip(answers) {
        let answer = answer.unwrap_or_else(|| StepAnswer::InputUnreadable("the step gave no answer".into()));
        cursor.apply_answer(&answer, started, took, history);
    }
    Ok(runs)
}

/// Applies cancels and passed deadlines to the sagas between two attempts, and lets those wait that stand at a wait or
/// at a step with children. At a signal that is the pivot, one that has come goes first.
async fn interrupt_or_wait(
    session: &mut Session<'_>,
    conn: &mut PgConnection,
    cursors: &mut [SagaCursor<'_>],
    (recovery, room, last): (&Recovery, &mut Room, Option<StepSide>),
    history: &mut Vec<HistoryRow>,
) -> Result<(), CommitError> {
    // What is written for waits, choices and children must not be taken back with the no of a later step.
    if cursors.iter().any(|cursor| cursor.kind().is_some_and(|kind| !kind.has_action())) {
        session.savepoints.ran(true);
    }
    for cursor in cursors.iter_mut().filter(|cursor| !cursor.stands_at_pivot_signal()) {
        cursor.apply_cancel_or_deadline(history);
    }
    loop {
        let gone = waits::go_through(session.core, conn, cursors, history).await;
        gone.map_err(|error| classify_write(error, last))?;
        // A saga that has left a step with children may stand at a wait, or at another one.
        if !children::go_through(session, conn, cursors, (recovery, room), history).await? {
            break;
        }
    }
    for cursor in cursors {
        cursor.apply_cancel_or_deadline(history);
    }
    Ok(())
}

/// Runs a step's code under a time limit.
async fn run_step(
    session: &mut Session<'_>,
    conn: &mut PgConnection,
    definition: &Definition,
    side: StepSide,
    path: CommitPath,
    invocations: &[Invocation],
) -> Result<Vec<StepAnswer>, CommitError> {
    metrics::histogram!("sagaline_batch_size")
        .record(f64::from(u32::try_from(invocations.len()).unwrap_or(u32::MAX)));
    let policy = definition.graph.policy(side.step_index, side.direction);
    let limit = path.time_limit(&session.core.settings, policy.timeout, invocations.len());
    let run = StepRun { definition, side, limit, rest: Rest::Leave };
    match step_run::run_step(session, conn, run, invocations).await {
        Ok(answers) => Ok(answers),
        Err(StepRunError::Step(error)) => Err(classify(error, Some(side))),
        Err(StepRunError::UserCode(failure)) => {
            let error = vec![format!("step `{}` {failure}", definition.graph.steps[side.step_index].name)];
            Err(CommitError::Step { side: Some(side), error, cancelled_mid_statement: true })
        }
    }
}

/// Writes the sagas' new states under the fence.
async fn write_updates(
    core: &Core,
    conn: &mut PgConnection,
    updates: &[SagaUpdate],
    last: Option<StepSide>,
) -> Result<(), CommitError> {
    if updates.is_empty() {
        return Ok(());
    }
    let written = store::commits::update_sagas(conn, updates, core.worker, core.lease_ms())
        .await
        .map_err(|error| classify_write(error, last))?;
    if written != updates.len() as u64 && !core.faults.is_fence_disabled() {
        let error = format!("{written} of {} locked sagas were written", updates.len());
        return Err(CommitError::Step { side: last, error: vec![error], cancelled_mid_statement: false });
    }
    Ok(())
}

/// Creates a dead job for every saga that was dead-lettered.
async fn dead_letter_batch(
    session: &mut Session<'_>,
    conn: &mut PgConnection,
    cursors: &[SagaCursor<'_>],
    recovery: &Recovery,
    last: Option<StepSide>,
) -> Result<(), CommitError> {
    let dead: Vec<Uuid> = cursors
        .iter()
        .filter(|cursor| cursor.is_dead_lettered())
        .map(|cursor| cursor.job.saga_id.0)
        .collect();
    let notice = match recovery {
        Recovery::DeadLetter(_) => Notice::BestEffort,
        Recovery::None | Recovery::FailSteps(_) => Notice::Required,
    };
    dead_letter(session, conn, &dead, notice).await.map_err(|error| match classify(error, last) {
        CommitError::Step { side, error, .. } => {
            let cancelled_mid_statement = session.user_code.cancelled_mid_statement;
            CommitError::Step { side, error, cancelled_mid_statement }
        }
        other @ (CommitError::Unreachable(_)
        | CommitError::Transient { .. }
        | CommitError::LockTimeout { .. }
        | CommitError::OutputTooLarge { .. }
        | CommitError::PutOff { .. }) => other,
    })
}

fn finish(
    cursors: &[SagaCursor<'_>],
    updates: &[SagaUpdate],
    effects: CommitEffects,
    result: &mut BatchResult,
) {
    result.effects = effects;
    for (cursor, row) in cursors.iter().zip(updates) {
        result.crash = result.crash.or(cursor.crash);
        result.effects.sent_cancels |= cursor.cancels.leaves_some;
        if cursor.came_to_rest {
            result.effects.ended.push((cursor.job.saga_id, cursor.final_status()));
            if cursor.state.status != Status::Dead {
                result.effects.signalled.extend(cursor.job.ancestry.parent_id.map(SagaId));
            }
        } else if row.held {
            result.continuing.push((cursor.index, cursor.continuation()));
        } else if cursor.state.status.is_active() {
            let sooner = result.next_due.map_or(cursor.delay, |due| due.min(cursor.delay));
            result.next_due = Some(sooner);
        }
    }
}
