//! Asks the database for sagas that ended in other processes while a caller waits for them here, and tells those
//! processes that somebody waits.

use std::{sync::Arc, time::Instant};

use uuid::Uuid;

use crate::{
    model::error_chain::ErrorChain,
    runtime::{core::Core, waiters::AskPolicy},
    store,
    support::{connection, jitter},
};

/// The most sagas of one query. With more callers each is asked for less often.
const MAX_ASKED: usize = 1000;

/// Asks until the engine shuts down.
pub(crate) async fn run(core: Arc<Core>) {
    let mut next_query = Instant::now();
    while !core.stop.is_cancelled() {
        if core.waiters.is_empty() {
            tokio::select! {
                () = core.stop.cancelled() => return,
                () = core.waiters.wakeup.notified() => {}
            }
        }
        let told = core.waiters.take_told();
        let mut asked = Vec::new();
        let now = Instant::now();
        if told.is_empty() || now >= next_query {
            (asked, next_query) = questions(&core, now);
        }
        if core.remote_ends.must_announce(now) {
            core.hints.tell_waiting(core.worker);
        }
        ask(&core, &told, &asked).await;
        tokio::select! {
            () = core.stop.cancelled() => return,
            () = core.waiters.wakeup.notified() => {}
            () = tokio::time::sleep_until(next_query.into()) => {}
        }
    }
}

/// The sagas to ask for, and the time of the next questions.
fn questions(core: &Core, now: Instant) -> (Vec<Uuid>, Instant) {
    let are_told = core.remote_ends.are_told(now);
    let policy = AskPolicy { first: core.settings.end_poll, are_told };
    let questions = core.waiters.questions(now, policy, MAX_ASKED);
    // A process without feeds moves no saga itself.
    if questions.is_remote || core.feeds.open_queues().is_empty() {
        core.remote_ends.needed(now);
    }
    let pause = jitter::jittered(policy.interval());
    let next = now + pause;
    let next = if questions.ids.is_empty() { questions.next.map_or(next, |due| due.min(next)) } else { next };
    (questions.ids, next)
}

/// Reads which of these sagas have ended, and notifies their callers.
async fn ask(core: &Core, told: &[Uuid], asked: &[Uuid]) {
    let ids = [told, asked].concat();
    if ids.is_empty() {
        return;
    }
    let read = connection::with_timeout(&core.pool, core.settings.db_timeout(), async |conn| {
        store::queries::endings(conn, &ids).await
    });
    match read.await {
        Ok(endings) => {
            if endings.iter().any(|ending| ending.is_late && !told.contains(&ending.saga_id.0)) {
                core.remote_ends.missed(Instant::now());
            }
            let ended: Vec<_> = endings.into_iter().map(|ending| (ending.saga_id, ending.status)).collect();
            core.waiters.notify(&ended);
        }
        Err(error) => {
            tracing::debug!(error = %ErrorChain(&error), "can't ask for ended sagas now; trying again");
        }
    }
}
