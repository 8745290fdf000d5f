//! Applies cancels and passed deadlines to a saga of a batch, between two attempts.

use std::collections::HashMap;

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    model::{
        pending_cancel::PendingCancel,
        status::{Direction, Status},
        transition::{Event, Refusal, transition},
        views::HistoryOutcome,
    },
    runtime::commit::{cancels::ReadCancel, cursor::SagaCursor},
    store::{self, commits::HistoryRow},
};

/// Reads the messages for these sagas from the inbox. It comes after the fence.
pub(super) async fn read_messages(
    conn: &mut PgConnection,
    cursors: &mut [SagaCursor<'_>],
    saga_ids: &[Uuid],
) -> Result<(), sqlx::Error> {
    let mut messages: HashMap<Uuid, Vec<ReadCancel>> = HashMap::new();
    for row in store::inbox::unread_cancels(conn, saga_ids).await? {
        let read = ReadCancel { cancel: row.payload.0, message: Some(row.id) };
        messages.entry(row.saga_id).or_default().push(read);
    }
    for cursor in cursors {
        cursor.cancels.pending.extend(messages.remove(&cursor.job.saga_id.0).into_iter().flatten());
    }
    Ok(())
}

/// Marks the messages of the inbox that the sagas have followed, or can't follow any more.
pub(super) async fn settle_messages(
    conn: &mut PgConnection,
    cursors: &[SagaCursor<'_>],
) -> Result<(), sqlx::Error> {
    let consumed: Vec<i64> = cursors.iter().flat_map(|cursor| cursor.cancels.followed.clone()).collect();
    let late = cursors.iter().flat_map(|cursor| &cursor.cancels.late);
    let too_late: Vec<i64> = late.filter_map(|read| read.message).collect();
    if consumed.is_empty() && too_late.is_empty() {
        return Ok(());
    }
    store::inbox::settle(conn, &consumed, &too_late).await
}

impl SagaCursor<'_> {
    /// Applies a cancel or a passed deadline, between two attempts.
    pub(crate) fn apply_cancel_or_deadline(&mut self, history: &mut Vec<HistoryRow>) {
        let dead_with_cancel = self.is_dead_lettered() && !self.cancels.pending.is_empty();
        if self.kind().is_none() || !(self.state.status == Status::Running || dead_with_cancel) {
            return;
        }
        let (event, outcome, why) = if let Some(ReadCancel { cancel, .. }) = self.cancels.pending.first() {
            let PendingCancel { actor, reason, .. } = cancel;
            let why = vec![format!("cancelled by {actor}: {reason}")];
            (cancel.event(), HistoryOutcome::Cancelled, why)
        } else if self.deadline_passed {
            (Event::DeadlinePassed, HistoryOutcome::DeadlinePassed, vec!["the deadline passed".into()])
        } else {
            return;
        };
        match transition(self.graph, &self.state, &event) {
            Ok(_) => {
                self.record_event(outcome, why, history);
                self.apply(&event);
                self.cancels.follow();
            }
            Err(Refusal::AlreadyCompensating) => self.cancels.follow(),
            // The saga goes on.
            Err(Refusal::PastPivot | Refusal::Ended | Refusal::Impossible) => self.cancels.refuse(),
        }
    }

    /// Decides about the cancels that were not applied because the saga had turned or ended before. They stay pending if
    /// only another process, or an operator, can decide.
    pub(super) fn decide_cancels(&mut self) {
        if self.cancels.pending.is_empty() || self.kind().is_none() {
            return;
        }
        match (self.state.status, self.state.direction) {
            (Status::Completed, _) => {
                self.cancels.leave_those_of_parent();
                self.cancels.refuse();
            }
            (Status::Compensating | Status::Compensated, _) | (_, Direction::Undo) => self.cancels.follow(),
            (Status::Running | Status::Dead, Direction::Action) => {}
        }
    }
}
