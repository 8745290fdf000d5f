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

use crate::{engine::Inner, ids::SagaId, store, upkeep, view::FinalStatus};

/// How long a waiter is left to the local commits before the database is asked.
const LOCAL_GRACE: Duration = Duration::from_millis(50);
const POLL: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Waiter {
    since: Instant,
    tell: oneshot::Sender<FinalStatus>,
}

#[derive(Debug, Default)]
pub(crate) struct Waiters {
    waiting: Mutex<HashMap<SagaId, Vec<Waiter>>>,
    somebody_came: Notify,
    ended: AtomicBool,
}

impl Waiters {
    pub(crate) fn wait_for(&self, saga_id: SagaId) -> oneshot::Receiver<FinalStatus> {
        let (tell, told) = oneshot::channel();
        let mut waiting = self.lock();
        if self.ended.load(Ordering::Relaxed) {
            return told;
        }
        if waiting.is_empty() {
            self.somebody_came.notify_one();
        }
        waiting.entry(saga_id).or_default().push(Waiter { since: Instant::now(), tell });
        told
    }

    /// Sends all waiters away, and those who come later.
    pub(crate) fn end(&self) {
        let mut waiting = self.lock();
        self.ended.store(true, Ordering::Relaxed);
        waiting.clear();
    }

    pub(crate) fn tell(&self, ended: &[(SagaId, FinalStatus)]) {
        let mut waiting = self.lock();
        for (saga_id, ending) in ended {
            for waiter in waiting.remove(saga_id).unwrap_or_default() {
                // A caller that has gone does not need to know.
                let _ = waiter.tell.send(ending.clone());
            }
        }
    }

    /// The sagas whose waiters have waited for a while; forgets callers that have gone.
    fn patient(&self) -> Vec<uuid::Uuid> {
        let mut waiting = self.lock();
        waiting.retain(|_, waiters| {
            waiters.retain(|waiter| !waiter.tell.is_closed());
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
pub(crate) async fn watch_elsewhere(engine: std::sync::Arc<Inner>) {
    loop {
        let idle = engine.waiters.is_empty();
        let pause = async {
            if idle {
                engine.waiters.somebody_came.notified().await;
            }
            tokio::time::sleep(crate::clock::jittered(POLL)).await;
        };
        tokio::select! {
            () = engine.stop.cancelled() => return,
            () = pause => {}
        }
        let patient = engine.waiters.patient();
        if patient.is_empty() {
            continue;
        }
        let limit = engine.settings.upkeep();
        let looked = async {
            let connection = upkeep::connection(&engine.pool, limit).await?;
            upkeep::bounded(connection, limit, async |conn| store::reads::endings(conn, &patient).await).await
        };
        match looked.await {
            Ok(ended) => engine.waiters.tell(&ended),
            Err(error) => tracing::debug!(error = %error, "can't look for ended sagas now; trying again"),
        }
    }
}
