//! Callers that wait until a saga ends or dies. The commit of a saga in this process notifies its waiters. Other
//! processes tell of ends, too, and behind that is a poll, which asks for many sagas at once, and for each the less often
//! the longer it is waited for.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::model::{ids::SagaId, views::FinalStatus};

/// How often the database is asked for a saga. The times depend on how soon it is asked first when nobody tells ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AskPolicy {
    pub(crate) first: Duration,
    /// Whether other processes tell ends, as far as is known.
    pub(crate) are_told: bool,
}

impl AskPolicy {
    /// How long to wait before the database is asked, when the last time was `age` after the wait began. A question
    /// comes after half again the time that the saga was waited for, so no end is found much later than it takes anyway.
    fn pause(self, age: Duration) -> Duration {
        let Self { first, are_told } = self;
        if are_told { age.clamp(first * 20, first * 100) } else { (age / 2).clamp(first, first * 40) }
    }

    /// The time between two queries.
    pub(crate) fn interval(self) -> Duration {
        if self.are_told { self.first * 10 } else { self.first * 2 }
    }
}

/// The callers that wait for one saga.
#[derive(Debug)]
struct Wait {
    /// When the last caller came.
    since: Instant,
    /// When the database was asked last; at first, when the last caller came.
    asked: Instant,
    /// Whether to ask now, because its end may have been missed.
    ask_now: bool,
    replies: Vec<oneshot::Sender<FinalStatus>>,
}

#[derive(Debug, Default)]
pub(crate) struct Waiters {
    waiting: Mutex<HashMap<SagaId, Wait>>,
    /// Sagas that are said to have ended in other processes, and have to be read.
    told: Mutex<Vec<Uuid>>,
    /// Wakes the task that asks the database.
    pub(crate) wakeup: Notify,
    /// Cancelled when the first caller comes.
    pub(crate) in_use: CancellationToken,
    closed: AtomicBool,
}

/// What to ask the database now.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    pub(crate) ids: Vec<Uuid>,
    /// When the next saga is due to be asked for, if none is now.
    pub(crate) next: Option<Instant>,
    /// Whether a wait is so long that its saga is probably moved by another process.
    pub(crate) is_remote: bool,
}

impl Waiters {
    pub(crate) fn subscribe(&self, saga_id: SagaId) -> oneshot::Receiver<FinalStatus> {
        let (reply, reply_rx) = oneshot::channel();
        let now = Instant::now();
        let mut waiting = self.waiting.lock();
        if self.closed.load(Ordering::Relaxed) {
            return reply_rx;
        }
        if waiting.is_empty() {
            self.in_use.cancel();
            self.wakeup.notify_one();
        }
        let new = || Wait { since: now, asked: now, ask_now: false, replies: Vec::new() };
        let wait = waiting.entry(saga_id).or_insert_with(new);
        (wait.since, wait.asked) = (now, now);
        wait.replies.push(reply);
        reply_rx
    }

    /// Ends all waits, current and future.
    pub(crate) fn close(&self) {
        let mut waiting = self.waiting.lock();
        self.closed.store(true, Ordering::Relaxed);
        waiting.clear();
    }

    /// Notifies the callers that wait for these sagas.
    pub(crate) fn notify(&self, ended: &[(SagaId, FinalStatus)]) {
        let mut waiting = self.waiting.lock();
        if waiting.is_empty() {
            return;
        }
        for (saga_id, ending) in ended {
            notify_one(&mut waiting, *saga_id, ending);
        }
    }

    /// Takes in ends that another process tells; an end without its status is read from the database soon. Returns
    /// whether somebody here waited for one of them.
    pub(crate) fn tell(&self, ended: impl Iterator<Item = (SagaId, Option<FinalStatus>)>) -> bool {
        let mut waiting = self.waiting.lock();
        let (mut awaited, mut unread) = (false, Vec::new());
        for (saga_id, ending) in ended {
            if waiting.is_empty() {
                break;
            }
            match ending {
                Some(ending) => awaited |= notify_one(&mut waiting, saga_id, &ending),
                None if waiting.contains_key(&saga_id) => unread.push(saga_id.0),
                None => {}
            }
        }
        drop(waiting);
        awaited |= !unread.is_empty();
        if !unread.is_empty() {
            self.told.lock().extend(unread);
            self.wakeup.notify_one();
        }
        awaited
    }

    /// The sagas that are said to have ended since the last call.
    pub(crate) fn take_told(&self) -> Vec<Uuid> {
        std::mem::take(&mut *self.told.lock())
    }

    /// Makes all sagas due to be asked for, because ends may have been missed.
    pub(crate) fn ask_for_all(&self) {
        for wait in self.waiting.lock().values_mut() {
            wait.ask_now = true;
        }
        self.wakeup.notify_one();
    }

    /// Chooses at most `limit` sagas to ask the database for: of those that are due, those that waited longest for it.
    /// Also removes waits whose callers are gone.
    pub(crate) fn questions(&self, now: Instant, policy: AskPolicy, limit: usize) -> Questions {
        let mut waiting = self.waiting.lock();
        waiting.retain(|_, wait| {
            wait.replies.retain(|reply| !reply.is_closed());
            !wait.replies.is_empty()
        });
        let mut questions = Questions::default();
        let mut due = Vec::new();
        for (saga_id, wait) in waiting.iter() {
            let at = wait.asked + policy.pause(wait.asked.saturating_duration_since(wait.since));
            questions.is_remote |= now.saturating_duration_since(wait.since) >= policy.first;
            if wait.ask_now || at <= now {
                due.push((wait.asked, *saga_id));
            } else {
                questions.next = Some(questions.next.map_or(at, |next| next.min(at)));
            }
        }
        if due.len() > limit {
            due.select_nth_unstable(limit);
            due.truncate(limit);
        }
        for (_, saga_id) in due {
            if let Some(wait) = waiting.get_mut(&saga_id) {
                (wait.asked, wait.ask_now) = (now, false);
                questions.ids.push(saga_id.0);
            }
        }
        questions
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.lock().is_empty()
    }
}

/// Notifies the callers that wait for this saga; returns whether there are any.
fn notify_one(waiting: &mut HashMap<SagaId, Wait>, saga_id: SagaId, ending: &FinalStatus) -> bool {
    let Some(wait) = waiting.remove(&saga_id) else { return false };
    for reply in wait.replies {
        // A caller that is gone needs no notification.
        let _ = reply.send(ending.clone());
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(50);

    /// Asks for the sagas of this many waits for 20 seconds. Returns the number of queries and of the sagas in them, in
    /// the first and in the last five seconds of it.
    fn load(waits: usize, are_told: bool) -> [(usize, usize); 2] {
        let waiters = Waiters::default();
        let _callers: Vec<_> = (0..waits).map(|_| waiters.subscribe(SagaId::generate())).collect();
        let policy = AskPolicy { first: FIRST, are_told };
        let start = Instant::now();
        let (mut at, mut load) = (Duration::ZERO, [(0, 0); 2]);
        while at < Duration::from_secs(20) {
            let asked = waiters.questions(start + at, policy, 1000).ids.len();
            assert!(asked <= 1000);
            let seconds = at.as_secs();
            if asked > 0 && !(5..15).contains(&seconds) {
                let (queries, sagas) = &mut load[usize::from(seconds >= 15)];
                (*queries, *sagas) = (*queries + 1, *sagas + asked);
            }
            at += policy.interval();
        }
        load
    }

    #[test]
    fn the_poll_asks_seldom_for_many_waits() {
        let [(early, _), (late, late_sagas)] = load(10_000, false);
        assert!(early <= 50 && late <= 50, "{early} and {late} queries in five seconds");
        assert!(late_sagas <= 30_000, "{late_sagas} sagas in five seconds: each every two seconds");
        let [(early, early_sagas), (late, late_sagas)] = load(10_000, true);
        assert!(early <= 10 && late <= 10, "{early} and {late} queries in five seconds");
        assert!(early_sagas <= 10_000 && late_sagas <= 10_000, "{early_sagas} and {late_sagas} sagas");
    }

    #[test]
    fn a_saga_is_asked_for_the_less_often_the_longer_it_is_waited_for() {
        let waiters = Waiters::default();
        let _caller = waiters.subscribe(SagaId::generate());
        let policy = AskPolicy { first: FIRST, are_told: false };
        let start = Instant::now();
        let asked = |at: u64| !waiters.questions(start + Duration::from_millis(at), policy, 1).ids.is_empty();
        let times: Vec<u64> = (0..20_000).step_by(10).filter(|at| asked(*at)).collect();
        assert!(
            times.windows(2).all(|pair| pair[1] <= 2 * pair[0] && pair[1] - pair[0] <= 2010),
            "{times:?}"
        );
        assert!(times[0] <= 60 && times.len() < 25, "{times:?}");
    }

    #[test]
    fn every_saga_gets_its_turn_when_there_are_more_than_one_query_takes() {
        let waiters = Waiters::default();
        let _callers: Vec<_> = (0..25).map(|_| waiters.subscribe(SagaId::generate())).collect();
        let policy = AskPolicy { first: FIRST, are_told: false };
        let start = Instant::now() + FIRST;
        let mut asked: Vec<_> =
            (0..3).flat_map(|round| waiters.questions(start + FIRST / 4 * round, policy, 10).ids).collect();
        asked.sort_unstable();
        asked.dedup();
        assert_eq!(asked.len(), 25);
    }

    #[test]
    fn told_ends_reach_their_callers_and_others_are_read() {
        let waiters = Waiters::default();
        let [completed, other, unknown] = [(); 3].map(|()| SagaId::generate());
        let (mut first, mut second) = (waiters.subscribe(completed), waiters.subscribe(other));
        let end = FinalStatus { status: crate::model::status::Status::Completed, cause: None, result: None };
        assert!(!waiters.tell([(unknown, Some(end.clone())), (unknown, None)].into_iter()));
        assert!(waiters.tell([(completed, Some(end.clone())), (other, None)].into_iter()));
        assert_eq!(first.try_recv(), Ok(end));
        assert!(second.try_recv().is_err());
        assert_eq!(waiters.take_told(), [other.0]);
    }
}
