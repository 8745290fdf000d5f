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
    definition::{
        children::{ChildrenAction, StoredEnd},
        new_saga::NewSaga,
        step_answer::StepAnswer,
    },
    model::{
        child::{ChildOf, EachEnded},
        error::StepError,
        error_chain::ErrorChain,
        ids::SagaId,
        kinds::StepKind,
        outcome::{Failure, Outcome},
        pending_cancel::{CompensatingParent, PendingCancel},
        status::{Direction, Status, StepSide},
        transition::{Event, Next},
        views::HistoryOutcome,
    },
    runtime::{
        commit::{
            child_ends::{child_is_gone, failed_child, stored_end},
            children_wait::ChildrenWait,
            cursor::SagaCursor,
            error::{CommitError, classify, classify_write},
            recovery::Recovery,
        },
        core::Core,
        definition_trees::DEEPEST,
        effects::Session,
        start::{
            start_sagas::{self, ClaimOnStart},
            validate,
        },
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
    recovery: &Recovery,
    history: &mut Vec<HistoryRow>,
) -> Result<bool, CommitError> {
    let mut left = false;
    // Those that are opened in one transaction, over all sagas of the batch.
    let mut room = ChildrenAction::OPENED_AT_ONCE;
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
                cursor.decide(session, conn, counts, &mut room).await
            };
            match decided.map_err(|error| classify_write(error, Some(side)))? {
                Decided::Answer(answer) => {
                    cursor.answer_with_children(session, &answer, history);
                    left |= cursor.state.side() != side;
                }
                Decided::Open(children) => opened.push((nth, children)),
                Decided::Wait(wait) => cursor.wait_for_children(wait),
            }
        }
        for (nth, children) in opened {
            let cursor = &mut *standing[nth];
            let side = cursor.state.side();
            let started = start_sagas::start(session, conn, children, ClaimOnStart::Yes);
            let started = started.await.map_err(|error| not_started(session, error, side))?;
            if let Some(error) = started.into_iter().find_map(Result::err) {
                return Err(not_started(session, StepError::Start(Box::new(error)), side));
            }
            cursor.note_opened(session, history);
        }
    }
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
        | CommitError::OutputTooLarge { .. }) => other,
    }
}

/// What a saga does at a step with children.
enum Decided {
    /// It leaves the step.
    Answer(StepAnswer),
    /// It opens these.
    Open(Vec<NewSaga>),
    /// It stays. Without a wait it looks again at once, in another transaction.
    Wait(Option<ChildrenWait>),
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

    fn as_parent(&self) -> Parent<'_> {
        let round = i32::try_from(self.state.round).unwrap_or(i32::MAX);
        Parent { saga_id: self.job.saga_id.0, step: &self.step_name, round }
    }

    async fn decide(
        &mut self,
        session: &mut Session<'_>,
        conn: &mut PgConnection,
        counts: ChildCounts,
        room: &mut usize,
    ) -> Result<Decided, sqlx::Error> {
        let Some(action) = self.children_action() else {
            return Ok(Decided::Answer(StepAnswer::InputUnreadable("its code has no children".into())));
        };
        match self.state.direction {
            Direction::Action => self.open_or_wait(session.core, conn, action, counts, room).await,
            Direction::Undo => self.undo_children(session, conn, counts).await,
        }
    }

    async fn open_or_wait(
        &self,
        core: &Core,
        conn: &mut PgConnection,
        action: &ChildrenAction,
        counts: ChildCounts,
        room: &mut usize,
    ) -> Result<Decided, sqlx::Error> {
        let total = match action.total(&self.values) {
            Ok(total) => total,
            Err(uncomputed) => return Ok(Decided::Answer(uncomputed.into())),
        };
        if total > ChildrenAction::MOST {
            let why = format!("it has {total} items, and may have {}", ChildrenAction::MOST);
            return Ok(failed(Failure::new(Failure::TOO_MANY_CHILDREN, why)));
        }
        if counts.failed > 0 && !action.settled {
            let first = store::children::first_failed(conn, self.as_parent()).await?;
            return Ok(failed(first.map_or_else(child_is_gone, |first| failed_child(first).failure())));
        }
        let opened = usize::try_from(counts.opened).unwrap_or_default();
        let open = usize::try_from(counts.open).unwrap_or(usize::MAX);
        if opened > total {
            let why = format!("`{}` has {total} children now, and has opened {opened}", self.step_name);
            return Ok(Decided::Answer(StepAnswer::InputUnreadable(why)));
        }
        let positions = self.to_open(conn, action, (opened, open, total), (counts.stale > 0, *room)).await?;
        if !positions.is_empty() {
            if self.job.ancestry.depth.unsigned_abs() >= DEEPEST {
                let why = format!("a saga may have {DEEPEST} ancestors, and its children would have more");
                return Ok(failed(Failure::new(Failure::TOO_DEEP, why)));
            }
            *room = room.saturating_sub(positions.len());
            return Ok(match self.children_at(core, action, &positions) {
                Ok(children) => Decided::Open(children),
                Err(answer) => Decided::Answer(answer),
            });
        }
        let is_all_open = opened == total && counts.stale == 0;
        if is_all_open && open == 0 {
            let joined = self.joined(conn, action, (total, counts.failed)).await?;
            return Ok(Decided::Answer(joined.within(core.settings.max_payload, &self.step_name)));
        }
        if *room == 0 && !is_all_open && open <= action.refills_at() {
            return Ok(Decided::Wait(None));
        }
        let at_open = if is_all_open { 0 } else { action.refills_at() };
        Ok(Decided::Wait(Some(ChildrenWait { at_open, at_failure: !action.settled })))
    }

    /// The positions that are to be opened now, at most `room`: those whose child of an earlier round did not complete,
    /// or the next ones when half of the open children have ended.
    async fn to_open(
        &self,
        conn: &mut PgConnection,
        action: &ChildrenAction,
        (opened, open, total): (usize, usize, usize),
        (is_stale, room): (bool, usize),
    ) -> Result<Vec<usize>, sqlx::Error> {
        if room == 0 || (open > action.refills_at() && open > 0) {
            return Ok(Vec::new());
        }
        let free = action.window().saturating_sub(open).min(room);
        if is_stale {
            let limit = i64::try_from(free).unwrap_or(i64::MAX);
            let again = store::children::to_reopen(conn, self.as_parent(), limit).await?;
            if !again.is_empty() {
                return Ok(again.into_iter().filter_map(|position| usize::try_from(position).ok()).collect());
            }
        }
        Ok((opened..total.min(opened + free)).collect())
    }

    fn children_at(
        &self,
        core: &Core,
        action: &ChildrenAction,
        positions: &[usize],
    ) -> Result<Vec<NewSaga>, StepAnswer> {
        let mut children = Vec::with_capacity(positions.len());
        let root_id = self.job.ancestry.root_id.unwrap_or(self.job.saga_id.0);
        // Runs of neighbours are computed together.
        for run in positions.chunk_by(|one, next| one + 1 == *next) {
            let computed = action.at(&self.values, run[0]..run[0] + run.len()).map_err(StepAnswer::from)?;
            if computed.len() != run.len() {
                return Err(StepAnswer::InputUnreadable(format!(
                    "`{}` computed {} children, and then others",
                    self.step_name,
                    run.len()
                )));
            }
            for (position, child) in run.iter().zip(computed) {
                let child_of = ChildOf {
                    parent_id: self.job.saga_id,
                    root_id: SagaId(root_id),
                    step: self.step_name.clone(),
                    round: self.state.round,
                    position: u32::try_from(*position).unwrap_or(u32::MAX),
                    depth: self.job.ancestry.depth.unsigned_abs() + 1,
                };
                // A refusal in the start would fail the whole batch.
                if let Err(error) = validate::check(core, &child) {
                    let why = format!("its child {position} can't be started: {}", ErrorChain(&error));
                    let failure = Failure::new(Failure::CHILD_FAILED, why);
                    return Err(StepAnswer::Outcome(Outcome::Fail(failure)));
                }
                let trace = self.job.trace.as_deref().map(str::to_owned);
                children.push(child.trace_or(|| trace).child_of(child_of));
            }
        }
        Ok(children)
    }

    /// The answer of the step when all children have ended.
    async fn joined(
        &self,
        conn: &mut PgConnection,
        action: &ChildrenAction,
        (total, failed): (usize, i64),
    ) -> Result<StepAnswer, sqlx::Error> {
        let output = if action.reads_ends() {
            let ended = store::children::ends(conn, self.job.saga_id.0, &self.step_name).await?;
            let ends: Vec<StoredEnd> = ended.into_iter().map(stored_end).collect();
            action.output(&ends)
        } else {
            let total = u32::try_from(total).unwrap_or(u32::MAX);
            let failed = u32::try_from(failed).unwrap_or(u32::MAX);
            ChildrenAction::counts(EachEnded { total, completed: total.saturating_sub(failed), failed })
        };
        Ok(match output {
            Ok(output) => StepAnswer::done(Some(output)),
            Err(error) => StepAnswer::InputUnreadable(format!("`{}`: {error}", self.step_name)),
        })
    }

    /// Has the children undone that were opened: those that run are cancelled, and those that have completed
    /// compensate.
    async fn undo_children(
        &self,
        session: &mut Session<'_>,
        conn: &mut PgConnection,
        counts: ChildCounts,
    ) -> Result<Decided, sqlx::Error> {
        if counts.standing == 0 {
            return Ok(Decided::Answer(StepAnswer::done(None)));
        }
        let Some(cause) = self.state.cause.clone() else {
            let why = "the saga compensates, but its cause is not stored";
            return Ok(Decided::Answer(StepAnswer::InputUnreadable(why.into())));
        };
        // Each child gets a copy.
        let cause = cause.without_details();
        let cancel = PendingCancel::of_child(CompensatingParent { saga: self.job.saga_id, cause });
        let limit = ChildrenAction::OPENED_AT_ONCE;
        let told = store::children::compensate(
            conn,
            (self.job.saga_id.0, &self.step_name),
            &cancel,
            i64::try_from(limit).unwrap_or(i64::MAX),
        )
        .await?;
        session.effects.sent_cancels |= told.all > 0;
        // There may be more. Those that are told again are not, so that this can't go on without a pause.
        if told.first >= limit {
            return Ok(Decided::Wait(None));
        }
        Ok(Decided::Wait(Some(ChildrenWait { at_open: 0, at_failure: false })))
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

    /// The wait for children in which the saga stays.
    pub(super) fn stays_for_children(&self) -> Option<ChildrenWait> {
        let is_there = self.kind().is_some_and(StepKind::has_children) && self.next == Next::Wait;
        self.children_wait.filter(|_| is_there && self.state.attempt == 0)
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

fn failed(failure: Failure) -> Decided {
    Decided::Answer(StepAnswer::Outcome(Outcome::Fail(failure)))
}
