//! What this process tells the others after its commits: which queues have due sagas, which sagas ended, and that it
//! waits for sagas itself. All of it is a hint; polls find the same.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use sqlx::PgPool;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::{
    model::error_chain::ErrorChain,
    model::{
        ids::{SagaId, WorkerId},
        status::Status,
        views::FinalStatus,
    },
    store::hints::{self, DUE, ENDED, Notification, WAITING},
    support::connection,
};

/// How long a process tells ends after another has said that it waits. Those who wait say so again after a third of it.
pub(crate) const TELL_FOR: Duration = Duration::from_secs(30);
/// The most ends that wait to be told. With more, the database has been away for long, and polls will find them.
const MAX_ENDED: usize = 20_000;
/// The ends in one notification: each takes 33 bytes, and a payload has less than 8000.
const ENDS_PER_PAYLOAD: usize = 240;

/// Hints that are to be sent. What arrives while one statement sends is sent together by the next.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    pending: Mutex<Pending>,
    pub(crate) wakeup: Notify,
    sending: tokio::sync::Mutex<()>,
    /// Until when other processes want to be told of ends.
    ends_wanted_until: Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct Pending {
    due: BTreeSet<String>,
    ended: Vec<(SagaId, bool)>,
    waiting: BTreeSet<String>,
}

impl Hints {
    /// Tells that sagas of this queue are due.
    pub(crate) fn tell_due(&self, queue: &str) {
        let mut pending = self.pending.lock();
        if !pending.due.contains(queue) {
            pending.due.insert(queue.to_owned());
            self.wakeup.notify_one();
        }
    }

    /// Tells that these sagas ended, if another process has said lately that it waits for any.
    pub(crate) fn tell_ended(&self, ended: &[(SagaId, FinalStatus)]) {
        if ended.is_empty() || self.ends_wanted_until.lock().is_none_or(|until| until <= Instant::now()) {
            return;
        }
        let mut pending = self.pending.lock();
        let room = MAX_ENDED.saturating_sub(pending.ended.len());
        pending.ended.extend(ended.iter().take(room).map(|(id, end)| (*id, is_plain(end))));
        self.wakeup.notify_one();
    }

    /// Tells that this process waits for sagas which others move.
    pub(crate) fn tell_waiting(&self, worker: WorkerId) {
        self.pending.lock().waiting.insert(worker.0.to_string());
        self.wakeup.notify_one();
    }

    /// Asks the other processes whether they wait for sagas.
    pub(crate) fn ask_who_waits(&self) {
        self.pending.lock().waiting.insert(String::new());
        self.wakeup.notify_one();
    }

    /// Notes that another process waits for sagas.
    pub(crate) fn others_wait(&self, now: Instant) {
        *self.ends_wanted_until.lock() = Some(now + TELL_FOR);
    }

    /// Sends what is pending. Hints that can't be sent are dropped.
    pub(crate) async fn flush(&self, pool: &PgPool, timeout: Duration) {
        let _one_at_a_time = self.sending.lock().await;
        let notifications = std::mem::take(&mut *self.pending.lock()).notifications();
        if notifications.is_empty() {
            return;
        }
        let sent =
            connection::with_timeout(pool, timeout, async |conn| hints::send(conn, &notifications).await);
        if let Err(error) = sent.await {
            tracing::debug!(error = %ErrorChain(&error), "can't send hints now; others rely on their polls");
        }
    }
}

impl Pending {
    fn notifications(self) -> Vec<Notification> {
        let due = self.due.into_iter().map(|queue| Notification { channel: DUE, payload: queue });
        let waiting = self.waiting.into_iter().map(|payload| Notification { channel: WAITING, payload });
        let ended = self
            .ended
            .chunks(ENDS_PER_PAYLOAD)
            .map(|ends| Notification { channel: ENDED, payload: encode_ended(ends) });
        due.chain(waiting).chain(ended).collect()
    }
}

/// Whether the end is told by its name alone: the saga is completed, which nothing changes any more, and there is no
/// cause and no result. Other ends are read from the database by those who wait for them.
fn is_plain(end: &FinalStatus) -> bool {
    end.status == Status::Completed && end.cause.is_none() && end.result.is_none()
}

/// Writes ends as a payload: a `+` for a saga that is completed or a `-` for another end, and the saga's id.
fn encode_ended(ends: &[(SagaId, bool)]) -> String {
    let mut payload = String::with_capacity(ends.len() * 33);
    for (id, plain) in ends {
        payload.push(if *plain { '+' } else { '-' });
        payload.push_str(id.0.simple().encode_lower(&mut Uuid::encode_buffer()));
    }
    payload
}

/// Reads a payload of ends; the status is `None` if it has to be read from the database. What can't be read is left to
/// the poll.
pub(crate) fn decode_ended(payload: &str) -> impl Iterator<Item = (SagaId, Option<FinalStatus>)> {
    payload.as_bytes().chunks_exact(33).filter_map(|end| {
        let id = Uuid::try_parse_ascii(&end[1..]).ok()?;
        let plain = end[0] == b'+';
        let status = plain.then_some(FinalStatus { status: Status::Completed, cause: None, result: None });
        Some((SagaId(id), status))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(status: Status) -> (SagaId, FinalStatus) {
        (SagaId(Uuid::now_v7()), FinalStatus { status, cause: None, result: None })
    }

    #[test]
    fn ends_are_told_only_while_somebody_elsewhere_waits() {
        let hints = Hints::default();
        hints.tell_ended(&[end(Status::Completed)]);
        assert_eq!(hints.pending.lock().ended, []);
        hints.others_wait(Instant::now());
        hints.tell_ended(&[end(Status::Completed), end(Status::Dead)]);
        assert_eq!(hints.pending.lock().ended.len(), 2);
        *hints.ends_wanted_until.lock() = Some(Instant::now());
        hints.tell_ended(&[end(Status::Completed)]);
        assert_eq!(hints.pending.lock().ended.len(), 2);
    }

    #[test]
    fn ends_that_pile_up_are_bounded_and_fit_into_payloads() {
        let hints = Hints::default();
        hints.others_wait(Instant::now());
        let ends: Vec<_> = (0..MAX_ENDED + 10).map(|_| end(Status::Completed)).collect();
        hints.tell_ended(&ends);
        let told = std::mem::take(&mut *hints.pending.lock()).notifications();
        assert!(told.iter().all(|one| one.channel == ENDED && one.payload.len() < 8000));
        let read: Vec<_> = told.iter().flat_map(|one| decode_ended(&one.payload)).collect();
        assert_eq!(read.len(), MAX_ENDED);
        assert!(read.iter().zip(&ends).all(|(read, end)| read.0 == end.0 && read.1.as_ref() == Some(&end.1)));
    }

    #[test]
    fn only_a_completed_saga_is_told_with_its_status() {
        let [dead, compensated] = [Status::Dead, Status::Compensated].map(end);
        let ends: Vec<_> = [&dead, &compensated].map(|(id, end)| (*id, is_plain(end))).into();
        let read: Vec<_> = decode_ended(&encode_ended(&ends)).collect();
        assert_eq!(read, [(dead.0, None), (compensated.0, None)]);
        assert_eq!(decode_ended("+nothing that can be read, 33 byte").count(), 0);
    }

    #[test]
    fn a_queue_that_becomes_due_many_times_is_told_once() {
        let hints = Hints::default();
        for _ in 0..100 {
            hints.tell_due("default");
        }
        hints.tell_due("mails");
        let told = std::mem::take(&mut *hints.pending.lock()).notifications();
        let queues: Vec<_> = told.iter().map(|one| one.payload.as_str()).collect();
        assert_eq!(queues, ["default", "mails"]);
    }
}
