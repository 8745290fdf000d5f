//! The group commit of starts: requests that arrive while a batch is being committed form the next batch.
//!
//! Each batch is tried once here, for a bounded time. One that fails, waits for a lock or takes long continues
//! [aside](crate::runtime::start::aside), so that no other batch waits for it.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::FutureExt;
use tokio::sync::mpsc;

use crate::{
    model::status::Direction,
    runtime::{
        core::Core,
        messages::{StartRequest, drain_ready},
        savepoints::MAX_ITEMS,
        start::{
            aside::{self, Starter},
            part::{Limits, Part, is_blocked},
        },
    },
};

/// How long a batch waits for a lock.
const LOCK_WAIT: Duration = Duration::from_millis(200);
/// After a batch timed out on a lock, batches use [`SHORT_LOCK_WAIT`] for this long.
const LOCK_CAUTION: Duration = Duration::from_secs(10);
const SHORT_LOCK_WAIT: Duration = Duration::from_millis(50);

pub(crate) async fn run(core: Arc<Core>, mut arrivals: mpsc::UnboundedReceiver<StartRequest>) {
    let starter = Starter::new(core.clone());
    let mut batch = Vec::new();
    let mut cautious_until = None;
    loop {
        let arrived = tokio::select! {
            biased;
            count = arrivals.recv_many(&mut batch, core.settings.max_batch) => count,
            () = core.stop.cancelled() => { arrivals.close(); 0 }
        };
        if arrived == 0 && arrivals.is_closed() && arrivals.is_empty() {
            return;
        }
        if batch.is_empty() {
            continue;
        }
        drain_ready(&mut batch, &mut arrivals, core.settings.max_batch).await;
        let is_cautious = cautious_until.is_some_and(|until| Instant::now() < until);
        let limits = Limits {
            lock_wait: if is_cautious { SHORT_LOCK_WAIT } else { LOCK_WAIT },
            work: core.settings.batch_time_limit(),
        };
        // If a batch panics, its callers get the answer that the engine does not respond; later batches go on.
        let work = start(&starter, std::mem::take(&mut batch), limits);
        match AssertUnwindSafe(work).catch_unwind().await {
            // Only a time-out of the full length shows that the lock is held for long.
            Ok(LockWait::TimedOut) if !is_cautious => cautious_until = Some(Instant::now() + LOCK_CAUTION),
            Ok(LockWait::TimedOut | LockWait::Fine) => {}
            Err(_) => tracing::error!("starting a batch of sagas panicked"),
        }
    }
}

/// Whether a batch timed out on a lock.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LockWait {
    TimedOut,
    Fine,
}

/// Tries to start a batch, without the starts that are known to wait for a lock.
async fn start(starter: &Arc<Starter>, batch: Vec<StartRequest>, limits: Limits) -> LockWait {
    let (blocked, together): (Vec<_>, Vec<_>) =
        batch.into_iter().partition(|request| starter.blocked.contains(&request.saga));
    for request in blocked {
        aside::wait(starter, Part::new(vec![request]));
    }
    let mut wait = LockWait::Fine;
    for mut part in parts(&starter.core, together) {
        part.forget_abandoned();
        if part.is_empty() {
            continue;
        }
        match part.commit(&starter.core, limits).await {
            Ok(answers) => part.answer(answers),
            Err(error) => {
                if is_blocked(&error) {
                    wait = LockWait::TimedOut;
                }
                aside::continue_aside(starter, part, &error);
            }
        }
    }
    wait
}

/// Splits a batch into parts that have a savepoint for each start if one of their entry steps is expected to need them.
fn parts(core: &Core, mut batch: Vec<StartRequest>) -> Vec<Part> {
    let items = batch.len();
    let expects_a_no = |request: &StartRequest| {
        let definition = core.definitions.newest(&request.saga.definition);
        definition.is_some_and(|definition| {
            let entry = definition.graph.steps[0].entry;
            let rate = definition.actions[0].no_rate(Direction::Action);
            entry && rate.is_some_and(|rate| rate.expects_a_no(items))
        })
    };
    if items <= MAX_ITEMS || !batch.iter().any(expects_a_no) {
        return vec![Part::new(batch)];
    }
    let mut parts = Vec::new();
    while batch.len() > MAX_ITEMS {
        let rest = batch.split_off(MAX_ITEMS);
        parts.push(Part::new(std::mem::replace(&mut batch, rest)));
    }
    parts.push(Part::new(batch));
    parts
}
