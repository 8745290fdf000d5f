//! The steps of a batch that have children: a saga opens them, waits for their ends, or has them undone. All of it
//! happens after the fence, in the transaction that also runs the steps that follow.
//!
//! A parent alone opens its children, and reads how far they are from their rows; no child ever writes the row of its
//! parent. The process that commits the end of a child then nudges the parent, as the sender of a signal does.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    definition::{children::ChildrenAction, new_saga::NewSaga, step_answer::StepAnswer},
    model::{
        error::StepError,
        ids::SagaId,
        kinds::StepKind,
        status::{Direction, Status, StepSide},
        transition::{Event, Next},
        views::HistoryOutcome,
    },
    runtime::{
        commit::{
            children_room::Room,
            children_wait::ChildrenWait,
            cursor::SagaCursor,
            error::{CommitError, classify, classify_write},
            recovery::Recovery,
        },
        effects::Session,
        start::start_sagas::{self, ClaimOnStart},
    },
    store::{
        self,
        children::{ChildCounts, Parent},
        commits::{ChildrenRow, HistoryRow},
    },
};

/// Lets the sagas go on that stand at a step with children, and the others wait. Returns whether any has left its step.
pub(super) async fn go_through(
    session: &mut Session<'_>,
    conn: &mut PgConnection,
    cursors: &mut [SagaCursor<'_>],
    (recovery, room): (&Recovery, &mut Room),
    history: &mut Vec<HistoryRow>,
) -> Result<bool, CommitError> {
    let mut left = false;
    loop {
        let mut standing: Vec<&mut SagaCursor<'_>> =
            cursors.iter_mut().filter(|cursor| cursor.stands_at_children()).collect();
        if standing.is_empty() {
            return Ok(left);
        }
        let mut counts = counts(conn, &standing).await.map_err(|error| classify_write(error, None))?;
        let mut opened: Vec<(usize, Vec<NewSaga>)> = Vec::new();
        for (nth, cursor) in standing.iter_mut().enumerate() {
            let counts = counts.remove(&cursor.job.saga_id.0).unwrap_or_default();
            let side = cursor.state.side();
            let decided = if let Some(answer) = cursor.forced_answer(recovery) {
                Ok(Decided::Answer(answer))
            } else {
                // Boxed, so that what sagas without children await is no larger for it.
                Box::pin(cursor.decide(session, conn, counts, room)).await
            };
            match decided? {
                Decided::Answer(answer) => {
                    cursor.answer_with_children(session, &answer, history);
                    left |= cursor.state.side() != side;
                }
                Decided::Open(children) => opened.push((nth, children)),
                Decided::Wait(wait) => cursor.wait_for_children(wait),
                Decided::Later => cursor.wait_for_turn(),
            }
        }
        for (nth, children) in opened {
            let cursor = &mut *standing[nth];
            Box::pin(start(session, conn, children, cursor.state.side())).await?;
            cursor.note_opened(session, history);
        }
    }
}

/// Starts the children of one saga: all of them, or none.
async fn start(
    session: &mut Session<'_>,
    conn: &mut PgConnection,
    children: Vec<NewSaga>,
    side: StepSide,
) -> Result<(), CommitError> {
    let ids: Vec<SagaId> = children.iter().map(NewSaga::saga_id).collect();
    session.put_off.clear();
    let started = start_sagas::start(session, conn, children, ClaimOnStart::Yes);
    let started = started.await.map_err(|error| not_started(session, error, side))?;
    let mut refused = ids.into_iter().zip(started).filter_map(|(id, start)| Some((id, start.err()?)));
    let Some((first, error)) = refused.next() else { return Ok(()) };
    // If an entry step asks for a retry beside one that puts its start off, it is an attempt.
    let mut refused = std::iter::once(first).chain(refused.map(|(id, _)| id));
    let put_off = std::mem::take(&mut session.put_off);
    if refused.all(|id| put_off.iter().any(|(child, _)| *child == id))
        && let Some((_, retry)) = put_off.into_iter().find(|(child, _)| *child == first)
    {
        return Err(CommitError::PutOff { side, retry: Box::new(retry) });
    }
    Err(not_started(session, StepError::Start(Box::new(error)), side))
}

/// The error of a batch whose children could not be started. The code of an entry step may have been dropped during a
/// statement that the server still executes.
fn not_started(session: &Session<'_>, error: StepError, side: StepSide) -> CommitError {
    match classify(error, Some(side)) {
        CommitError::Step { side, error, .. } => {
            let cancelled_mid_statement = session.user_code.cancelled_mid_statement;
            CommitError::Step { side, error, cancelled_mid_statement }
        }
        other @ (CommitError::Unreachable(_)
        | CommitError::Transient { .. }
        | CommitError::LockTimeout { .. }
        | CommitError::OutputTooLarge { .. }
        | CommitError::PutOff { .. }) => other,
    }
}

/// What a saga does at a step with children.
pub(super) enum Decided {
    /// It leaves the step.
    Answer(StepAnswer),
    /// It opens these.
    Open(Vec<NewSaga>),
    /// It stays. Without a wait it looks again at once, in another transaction.
    Wait(Option<ChildrenWait>),
    /// It has not had its turn to read its items, and has it in another transaction.
    Later,
}

async fn counts(
    conn: &mut PgConnection,
    standing: &[&mut SagaCursor<'_>],
) -> Result<HashMap<Uuid, ChildCounts>, sqlx::Error> {
    let mut all = HashMap::new();
    for undo in [false, true] {
        let side = if undo { Direction::Undo } else { Direction::Action };
        let of_side = standing.iter().filter(|cursor| cursor.state.direction == side);
        let parents: Vec<Parent<'_>> = of_side.map(|cursor| cursor.as_parent()).collect();
        if !parents.is_empty() {
            let counted = store::children::counts(conn, &parents, undo).await?;
            all.extend(counted.into_iter().map(|counts| (counts.saga_id, counts)));
        }
    }
    Ok(all)
}

impl<'a> SagaCursor<'a> {
    fn children_action(&self) -> Option<&'a ChildrenAction> {
        let definition = self.definition;
        definition.actions.get(self.state.step_index)?.children()
    }

    /// Whether the saga stands at a step with children, and it is not decided yet whether it stays.
    fn stands_at_children(&self) -> bool {
        self.next == Next::Work
            && matches!(self.state.status, Status::Running | Status::Compensating)
            && self.children_action().is_some()
    }

    pub(super) fn as_parent(&self) -> Parent<'_> {
        let round = i32::try_from(self.state.round).unwrap_or(i32::MAX);
        Parent { saga_id: self.job.saga_id.0, step: &self.step_name, round }
    }

    async fn decide(
        &mut self,
        session: &mut Session<'_>,
        conn: &mut PgConnection,
        counts: ChildCounts,
        room: &mut Room,
    ) -> Result<Decided, CommitError> {
        let Some(action) = self.children_action() else {
            return Ok(Decided::Answer(StepAnswer::InputUnreadable("its code has no children".into())));
        };
        match self.state.direction {
            Direction::Action => self.open_or_wait(session, conn, action, counts, room).await,
            Direction::Undo => {
                let undoing = self.undo_children(session, conn, counts).await;
                undoing.map_err(|error| classify_write(error, Some(self.state.side())))
            }
        }
    }

    /// Applies the answer of the step, or of its undo.
    fn answer_with_children(
        &mut self,
        session: &Session<'_>,
        answer: &StepAnswer,
        history: &mut Vec<HistoryRow>,
    ) {
        self.begin();
        self.inject(session);
        self.apply_answer(answer, Instant::now(), Duration::ZERO, history);
    }

    /// Lets a test crash the process. A step with children has no code whose answer it could replace.
    fn inject(&mut self, session: &Session<'_>) {
        let (saga_id, definition, state) = (self.job.saga_id, &self.job.definition_name, &self.state);
        let injected = session.core.faults.before_step(
            saga_id,
            definition,
            &self.step_name,
            state.direction,
            state.attempt,
        );
        self.crash = self.crash.or(injected.crash);
    }

    /// Notes that the saga has opened children. With the first ones the step has begun.
    fn note_opened(&mut self, session: &Session<'_>, history: &mut Vec<HistoryRow>) {
        self.postponement.end();
        if self.state.in_doubt {
            return;
        }
        self.begin();
        self.inject(session);
        self.record_event(HistoryOutcome::Opened, Vec::new(), history);
        self.apply(&Event::Opened);
    }

    fn wait_for_children(&mut self, wait: Option<ChildrenWait>) {
        self.children_wait = wait;
        self.delay = Duration::ZERO;
        self.apply(&Event::Waiting);
    }

    /// As a saga that was claimed and could not be tried: the attempts that it has had count.
    fn wait_for_turn(&mut self) {
        self.children_wait = None;
        self.delay = Duration::ZERO;
        self.apply(&Event::Released);
        self.next = Next::Wait;
    }

    /// Whether the saga stays at a step with children, to look at them again.
    pub(super) fn is_between_children(&self) -> bool {
        self.kind().is_some_and(StepKind::has_children) && self.next == Next::Wait && self.state.attempt == 0
    }

    /// The wait for children in which the saga stays.
    pub(super) fn stays_for_children(&self) -> Option<ChildrenWait> {
        self.children_wait.filter(|_| self.is_between_children())
    }

    /// Where the saga stands among its steps with children, for its row.
    pub(super) fn children_row(&self) -> Option<ChildrenRow> {
        if !self.graph.steps.iter().any(|node| node.kind.has_children()) {
            return None;
        }
        let wait = self.stays_for_children();
        Some(ChildrenRow {
            round: i32::try_from(self.state.round).ok().filter(|round| *round > 0),
            wakes_at_open: wait.map(|wait| i32::try_from(wait.at_open).unwrap_or(i32::MAX)),
            wakes_at_failure: wait.is_some_and(|wait| wait.at_failure),
        })
    }
}
