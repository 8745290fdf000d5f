//! Callers that wait for a saga to come to rest. One that ends in this process is told at its commit; for the rest one
//! query for all of them, a few times a second and only while somebody waits, looks what ended elsewhere.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Notify, oneshot};

use crate::{
    engine::Core,
    model::{ids::SagaId, views::FinalStatus},
    store,
    support::connection,
};

/// How long a waiter is left to the local commits before the database is asked.
const LOCAL_GRACE: Duration = Duration::from_millis(50);
const POLL: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Waiter {
    since: Instant,
    reply: oneshot::Sender<FinalStatus>,
}

#[derive(Debug, Default)]
pub(crate) struct Waiters {
    waiting: Mutex<HashMap<SagaId, Vec<Waiter>>>,
    waiter_added: Notify,
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

    /// Sends all waiters away, and those who come later.
    pub(crate) fn close(&self) {
        let mut waiting = self.lock();
        self.closed.store(true, Ordering::Relaxed);
        waiting.clear();
    }

    pub(crate) fn notify(&self, ended: &[(SagaId, FinalStatus)]) {
        let mut waiting = self.lock();
        for (saga_id, ending) in ended {
            for waiter in waiting.remove(saga_id).unwrap_or_default() {
                // A caller that has gone does not need to know.
                let _ = waiter.reply.send(ending.clone());
            }
        }
    }

    /// The sagas whose waiters have waited for a while; forgets callers that have gone.
    fn past_grace(&self) -> Vec<uuid::Uuid> {
        let mut waiting = self.lock();
        waiting.retain(|_, waiters| {
            waiters.retain(|waiter| !waiter.reply.is_closed());
            !waiters.is_empty()
        });
        let old = |waiters: &Vec<Waiter>| waiters.iter().any(|waiter| waiter.since.elapsed() >= LOCAL_GRACE);
        waiting.iter().filter(|(_, waiters)| old(waiters)).map(|(saga_id, _)| saga_id.0).collect()
    }

    fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SagaId, Vec<Waiter>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks for sagas that ended in other processes, until the engine shuts down.
pub(crate) async fn poll_remote_ends(core: std::sync::Arc<Core>) {
    loop {
        let idle = core.waiters.is_empty();
        let pause = async {
            if idle {
                core.waiters.waiter_added.notified().await;
            }
            tokio::time::sleep(crate::support::jitter::jittered(POLL)).await;
        };
        tokio::select! {
            () = core.stop.cancelled() => return,
            () = pause => {}
        }
        let waiting = core.waiters.past_grace();
        if waiting.is_empty() {
            continue;
        }
        let limit = core.settings.db_timeout();
        let looked = async {
            let connection = connection::acquire(&core.pool, limit).await?;
            connection::on_connection(connection, limit, async |conn| {
                store::queries::endings(conn, &waiting).await
            })
            .await
        };
        match looked.await {
            Ok(ended) => core.waiters.notify(&ended),
            Err(error) => tracing::debug!(error = %error, "can't look for ended sagas now; trying again"),
        }
    }
}
