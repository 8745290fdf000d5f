//! Callers that wait until a saga ends or dies. The commit of a saga in this process notifies its waiters. For sagas
//! that end in other processes, one query asks for all waiters together, a few times a second and only while there are
//! waiters.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, oneshot};

use crate::model::{ids::SagaId, views::FinalStatus};

/// How long a waiter relies on local commits before the database is asked for its saga.
const LOCAL_GRACE: Duration = Duration::from_millis(50);

#[derive(Debug)]
struct Waiter {
    since: Instant,
    reply: oneshot::Sender<FinalStatus>,
}

#[derive(Debug, Default)]
pub(crate) struct Waiters {
    waiting: Mutex<HashMap<SagaId, Vec<Waiter>>>,
    pub(crate) waiter_added: Notify,
    closed: AtomicBool,
}

impl Waiters {
    pub(crate) fn subscribe(&self, saga_id: SagaId) -> oneshot::Receiver<FinalStatus> {
        let (reply, reply_rx) = oneshot::channel();
        let mut waiting = self.lock();
        if self.closed.load(Ordering::Relaxed) {
            return reply_rx;
        }
        if waiting.is_empty() {
            self.waiter_added.notify_one();
        }
        waiting.entry(saga_id).or_default().push(Waiter { since: Instant::now(), reply });
        reply_rx
    }

    /// Ends all waits, current and future.
    pub(crate) fn close(&self) {
        let mut waiting = self.lock();
        self.closed.store(true, Ordering::Relaxed);
        waiting.clear();
    }

    pub(crate) fn notify(&self, ended: &[(SagaId, FinalStatus)]) {
        let mut waiting = self.lock();
        for (saga_id, ending) in ended {
            for waiter in waiting.remove(saga_id).unwrap_or_default() {
                // A caller that is gone needs no notification.
                let _ = waiter.reply.send(ending.clone());
            }
        }
    }

    /// The sagas whose waiters have waited longer than [`LOCAL_GRACE`]. Also removes waiters whose callers are gone.
    pub(crate) fn past_grace(&self) -> Vec<uuid::Uuid> {
        let mut waiting = self.lock();
        waiting.retain(|_, waiters| {
            waiters.retain(|waiter| !waiter.reply.is_closed());
            !waiters.is_empty()
        });
        let old = |waiters: &Vec<Waiter>| waiters.iter().any(|waiter| waiter.since.elapsed() >= LOCAL_GRACE);
        waiting.iter().filter(|(_, waiters)| old(waiters)).map(|(saga_id, _)| saga_id.0).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SagaId, Vec<Waiter>>> {
        self.waiting.lock()
    }
}
