//! The steps of a batch that wait: a saga enters its wait, stays in it, or leaves it because a signal came or the time
//! is over. All of it happens after the fence, in the transaction that also runs the steps that follow.

use std::{collections::HashMap, time::Instant};

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    definition::{
        step_answer::StepAnswer,
        wait::{AwaitedSignal, WaitAction},
    },
    model::{
        graph::WaitNode,
        kinds::{Placement, StepKind},
        status::{Direction, Status},
        stored_value::StoredValue,
        transition::{Event, Next},
    },
    runtime::{
        commit::{cursor::SagaCursor, wait::Entered},
        core::Core,
    },
    store::{
        self,
        commits::{HistoryRow, WaitRow},
        signals::{SignalMessage, SignalRead, TakenSignal},
    },
    support::metrics::UNREADABLE_SIGNALS,
};

/// How many signals of one wait are read at once, after the first.
const SIGNALS_AT_ONCE: usize = 16;

/// Lets the sagas take the arms of the choices at which they stand, those go on whose wait is over, and the others
/// wait, until no saga stands at a choice or at a wait that it could leave.
pub(super) async fn go_through(
    core: &Core,
    conn: &mut PgConnection,
    cursors: &mut [SagaCursor<'_>],
    history: &mut Vec<HistoryRow>,
) -> Result<(), sqlx::Error> {
    // Messages may be large: more than one is read only if the first could not be.
    let mut at_once = 1;
    loop {
        let mut settled = Settled::default();
        for cursor in cursors.iter_mut() {
            cursor.take_arms(core, &mut settled.passed, history);
        }
        let mut standing: Vec<&mut SagaCursor<'_>> =
            cursors.iter_mut().filter(|cursor| cursor.stands_at_wait()).collect();
        if standing.is_empty() {
            return settled.write(conn).await;
        }
        enter(conn, &mut standing, history).await?;
        let mut messages = messages(conn, &standing, at_once).await?;
        for cursor in standing.into_iter().filter(|cursor| cursor.stands_at_wait()) {
            let messages = messages.remove(&cursor.job.saga_id.0).unwrap_or_default();
            let is_all = messages.len() < at_once;
            cursor.decide_wait(core, &messages, is_all, &mut settled, history);
        }
        at_once = SIGNALS_AT_ONCE;
        // Before the next round, which must not read them again.
        settled.write(conn).await?;
    }
}

/// What one round of waits leaves to be written of signals.
#[derive(Default)]
struct Settled<'a> {
    taken: Vec<TakenSignal>,
    /// Sagas that have left the last wait for a signal: what is left of it is too late.
    passed: Vec<(Uuid, &'a str)>,
}

impl Settled<'_> {
    async fn write(self, conn: &mut PgConnection) -> Result<(), sqlx::Error> {
        if !self.taken.is_empty() {
            store::signals::take(conn, &self.taken).await?;
        }
        if self.passed.is_empty() { Ok(()) } else { store::signals::expire_named(conn, &self.passed).await }
    }
}

/// Enters the waits that sagas have come to.
async fn enter(
    conn: &mut PgConnection,
    standing: &mut [&mut SagaCursor<'_>],
    history: &mut Vec<HistoryRow>,
) -> Result<(), sqlx::Error> {
    if standing.iter().all(|cursor| cursor.wait.entered.is_some()) {
        return Ok(());
    }
    // The steps before them may have taken long.
    let now = store::commits::clock(conn).await?;
    let mut too_old: Vec<(Uuid, &str)> = Vec::new();
    for cursor in standing.iter_mut().filter(|cursor| cursor.wait.entered.is_none()) {
        let Some(wait) = cursor.wait_action() else {
            cursor.dead_letter("its code does not wait at this step".into(), history);
            continue;
        };
        match wait.ends_at(&cursor.values, now) {
            Ok(until) => {
                cursor.wait.now = now;
                let until = until.min(now + WaitNode::LONGEST);
                cursor.wait.entered = Some(Entered { since: now, until });
            }
            Err(uncomputed) => {
                cursor.could_not_compute(uncomputed, history);
                continue;
            }
        }
        if let Some(signal) = wait.signal().filter(|signal| signal.only_new) {
            too_old.push((cursor.job.saga_id.0, signal.name));
        }
    }
    if too_old.is_empty() { Ok(()) } else { store::signals::expire_named(conn, &too_old).await }
}

/// Reads the first signals for each saga that waits for one.
async fn messages(
    conn: &mut PgConnection,
    standing: &[&mut SagaCursor<'_>],
    at_once: usize,
) -> Result<HashMap<Uuid, Vec<SignalMessage>>, sqlx::Error> {
    let read = |cursor: &&mut SagaCursor<'_>| {
        let name = cursor.wait_action()?.signal()?.name;
        Some(SignalRead { saga_id: cursor.job.saga_id.0, name, after: cursor.wait.tried })
    };
    let waits: Vec<_> = standing.iter().filter(|cursor| cursor.stands_at_wait()).filter_map(read).collect();
    let mut messages: HashMap<Uuid, Vec<SignalMessage>> = HashMap::new();
    if !waits.is_empty() {
        let limit = i64::try_from(at_once).unwrap_or(i64::MAX);
        for message in store::signals::oldest(conn, &waits, limit).await? {
            messages.entry(message.saga_id).or_default().push(message);
        }
    }
    Ok(messages)
}

/// Marks the signals that came too late for sagas that end, without a statement if none has any.
pub(super) async fn settle(conn: &mut PgConnection, cursors: &[SagaCursor<'_>]) -> Result<(), sqlx::Error> {
    let ended: Vec<Uuid> = cursors
        .iter()
        .filter(|cursor| matches!(cursor.state.status, Status::Completed | Status::Compensated))
        .filter(|cursor| cursor.wait.has_signals)
        .map(|cursor| cursor.job.saga_id.0)
        .collect();
    if ended.is_empty() { Ok(()) } else { store::signals::expire(conn, &ended).await }
}

impl<'a> SagaCursor<'a> {
    fn wait_action(&self) -> Option<&'a WaitAction> {
        let definition = self.definition;
        definition.actions.get(self.state.step_index)?.wait()
    }

    /// Whether the saga stands at a wait, and it is not decided yet whether it stays.
    fn stands_at_wait(&self) -> bool {
        self.next == Next::Work
            && self.state.status == Status::Running
            && self.state.direction == Direction::Action
            && self.kind().is_some_and(StepKind::is_wait)
    }

    /// Whether the saga stands at a signal that is its pivot: one that has come goes before a cancel.
    pub(super) fn stands_at_pivot_signal(&self) -> bool {
        let node = self.graph.steps.get(self.state.step_index);
        self.stands_at_wait() && node.is_some_and(|node| node.placement == Placement::Pivot)
    }

    /// Decides whether the saga leaves its wait. A signal that has come goes before a time that is over. Nothing is
    /// decided if its code can read none of these signals and they are not all.
    fn decide_wait(
        &mut self,
        core: &Core,
        messages: &[SignalMessage],
        is_all: bool,
        settled: &mut Settled<'a>,
        history: &mut Vec<HistoryRow>,
    ) {
        let Some((wait, entered)) = self.wait_action().zip(self.wait.entered) else { return };
        if let Some(signal) = wait.signal() {
            let (read, unread) = first_readable(signal, messages);
            for message in unread.iter().filter(|message| !message.unreadable) {
                self.report_unreadable(signal);
                settled.taken.push(TakenSignal { id: message.id, history_seq: None });
            }
            if let Some((message, output)) = read {
                self.leave_wait(core, Ok(output), entered, settled, history);
                settled.taken.push(TakenSignal { id: message.id, history_seq: Some(self.seq) });
                return;
            }
            self.wait.tried = unread
                .iter()
                .filter(|message| message.unreadable)
                .map(|message| message.id)
                .max()
                .unwrap_or(self.wait.tried);
            if !is_all {
                return;
            }
        }
        if self.stands_at_pivot_signal() {
            // A cancel or the deadline goes before a time that is over.
            self.apply_cancel_or_deadline(history);
        }
        if !self.stands_at_wait() {
            return;
        }
        if entered.until <= self.wait.now {
            self.leave_wait(core, wait.time_is_over(entered.until), entered, settled, history);
        } else {
            self.delay = (entered.until - self.wait.now).to_std().unwrap_or_default();
            self.apply(&Event::Waiting);
        }
    }

    fn report_unreadable(&self, signal: &AwaitedSignal) {
        tracing::warn!(
            saga.id = %self.job.saga_id, step.name = %self.step_name, signal = signal.name,
            "the code of a saga can't read a signal for it; it is left to other code, and the wait goes on"
        );
        let labels = [("definition", self.graph.name.clone()), ("signal", signal.name.to_owned())];
        metrics::counter!(UNREADABLE_SIGNALS, &labels).increment(1);
    }

    fn leave_wait(
        &mut self,
        core: &Core,
        output: Result<StoredValue, String>,
        entered: Entered,
        settled: &mut Settled<'a>,
        history: &mut Vec<HistoryRow>,
    ) {
        let answer = match output {
            Ok(output) => StepAnswer::done(Some(output)),
            Err(error) => StepAnswer::OutputUnstorable(error),
        };
        let waited = (self.wait.now - entered.since).to_std().unwrap_or_default();
        let now = Instant::now();
        self.begin();
        // A wait has no code whose answer a test could replace.
        let (saga_id, definition, attempt) =
            (self.job.saga_id, &self.job.definition_name, self.state.attempt);
        let injected =
            core.faults.before_step(saga_id, definition, &self.step_name, Direction::Action, attempt);
        self.crash = self.crash.or(injected.crash);
        let signal = self.wait_action().and_then(WaitAction::signal).map(|signal| signal.name);
        let next = self.graph.next(self.state.step_index);
        let was_last = signal.filter(|name| !self.graph.awaits_from(next, name));
        self.apply_answer(&answer, now.checked_sub(waited).unwrap_or(now), waited, history);
        if self.state.status != Status::Dead {
            settled.passed.extend(was_last.map(|name| (self.job.saga_id.0, name)));
        }
    }

    /// The wait in which the saga stays, for its row.
    pub(super) fn wait_row(&self) -> Option<WaitRow> {
        if self.is_between_children() {
            let since = self.wait.since.unwrap_or(self.wait.now);
            let waits_for = self.stays_for_children().map(|_| "children");
            return Some(WaitRow { since, until: None, waits_for, signal: None });
        }
        let is_in_wait = self.kind().is_some_and(StepKind::is_wait) && self.state.status != Status::Completed;
        let Entered { since, until } = self.wait.entered.filter(|_| is_in_wait)?;
        let stays = self.next == Next::Wait && self.state.status == Status::Running;
        let signal = self.wait_action().and_then(WaitAction::signal);
        let waits_for = match signal {
            Some(_) => "signal",
            None => "sleep",
        };
        Some(WaitRow {
            since,
            until: Some(until),
            waits_for: stays.then_some(waits_for),
            signal: signal.map(|signal| signal.name),
        })
    }
}

/// The first signal that the code can read, with its output, and those before it.
fn first_readable<'m>(
    signal: &AwaitedSignal,
    messages: &'m [SignalMessage],
) -> (Option<(&'m SignalMessage, StoredValue)>, &'m [SignalMessage]) {
    for (nth, message) in messages.iter().enumerate() {
        if let Ok(output) = signal.received(&message.payload.0.clone().into()) {
            return (Some((message, output)), &messages[..nth]);
        }
    }
    (None, messages)
}
