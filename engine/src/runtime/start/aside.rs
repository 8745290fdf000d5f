//! Starts that the group commit of starts could not commit at once: they are split until the start at fault is alone,
//! and a start that waits for a lock waits here, so that no other start waits for it.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    model::error::StepError,
    model::error_chain::ErrorChain,
    runtime::{
        core::Core,
        start::{
            blocked_keys::BlockedKeys,
            part::{Answers, Limits, Part, is_blocked, is_retryable, is_suspicious, reason},
        },
    },
    support::{jitter::jittered, metrics::STARTS_BLOCKED},
};

/// The most transactions of split batches at once.
const MAX_SPLITTING: usize = 2;
/// The most transactions of waiting starts at once.
const MAX_TRYING: usize = 4;
/// The most starts in batches that are split or are about to be.
const SPLITTING_ROOM: usize = 4096;
/// The most starts that wait for a lock.
const WAITING_ROOM: usize = 64;
/// How long part of a batch waits for a lock. It is short because a start that times out alone then waits longer.
const SPLIT_LOCK_WAIT: Duration = Duration::from_millis(25);
/// How long the first try of a waiting start waits for the lock; later ones wait longer. Between two tries it uses no
/// connection.
const LOCK_WAIT: Duration = Duration::from_millis(100);
const MAX_LOCK_WAIT: Duration = Duration::from_millis(1500);
/// How long a start waits for a lock in all.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// How long the attempt of a part may take before its commit.
const WORK_LIMIT: Duration = Duration::from_secs(20);
/// How many times a part is tried while the errors are transient.
const MAX_TRIES: u32 = 4;

/// What the starter's tasks share.
pub(super) struct Starter {
    pub(super) core: Arc<Core>,
    pub(super) blocked: BlockedKeys,
    splitting: Semaphore,
    splitting_room: Arc<Semaphore>,
    trying: Semaphore,
    waiting_room: Arc<Semaphore>,
}

impl Starter {
    pub(super) fn new(core: Arc<Core>) -> Arc<Self> {
        Arc::new(Self {
            core,
            blocked: BlockedKeys::default(),
            splitting: Semaphore::new(MAX_SPLITTING),
            splitting_room: Arc::new(Semaphore::new(SPLITTING_ROOM)),
            trying: Semaphore::new(MAX_TRYING),
            waiting_room: Arc::new(Semaphore::new(WAITING_ROOM)),
        })
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.core.tasks.spawn(async move {
            // If it panics, the callers get the answer that the engine does not respond.
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                tracing::error!("starting sagas panicked");
            }
        });
    }
}

/// Continues with a part that failed with this error in the group commit.
pub(super) fn continue_aside(starter: &Arc<Starter>, part: Part, error: &StepError) {
    if is_blocked(error) && part.only().is_some() {
        wait(starter, part);
        return;
    }
    let permits = u32::try_from(part.len()).unwrap_or(u32::MAX);
    let Ok(room) = starter.splitting_room.clone().try_acquire_many_owned(permits) else {
        part.refuse(&format!("too many starts failed and are tried again: {}", reason(error)));
        return;
    };
    // What failed for one reason only in the group commit, for example for a lack of time, is tried as a whole again.
    let parts = if is_blocked(error) { halves(part) } else { vec![part] };
    let task = {
        let starter = starter.clone();
        async move {
            // The semaphore is never closed, so `acquire` can't fail.
            let Ok(_permit) = starter.splitting.acquire().await else { return };
            split(&starter, parts).await;
            drop(room);
        }
    };
    starter.spawn(task);
}

/// Tries parts, and the parts of those that fail, until each start is committed, refused or waits alone.
async fn split(starter: &Arc<Starter>, mut parts: Vec<Part>) {
    let limits = Limits { lock_wait: SPLIT_LOCK_WAIT, work: WORK_LIMIT };
    // A part of a part that failed had its retries. More of them would hold up the starts that wait.
    let mut max_tries = MAX_TRIES;
    while let Some(mut part) = parts.pop() {
        part.forget_abandoned();
        if part.is_empty() {
            continue;
        }
        let commits = starter.core.commits();
        match commit_with_retries(&starter.core, &mut part, limits, max_tries).await {
            Ok(answers) => part.answer(answers),
            Err(error) => {
                max_tries = 1;
                let others_commit = starter.core.commits() != commits;
                parts.extend(after_error(starter, part, &error, others_commit));
            }
        }
    }
}

/// What to try next, the last first. Answers the callers if that is nothing.
fn after_error(starter: &Arc<Starter>, part: Part, error: &StepError, others_commit: bool) -> Vec<Part> {
    match part.only() {
        Some(_) if is_blocked(error) => {
            wait(starter, part);
            Vec::new()
        }
        Some(saga) => {
            if matches!(error, StepError::Other(_)) {
                starter.blocked.insert(saga);
            }
            part.refuse(&reason(error));
            Vec::new()
        }
        None if !is_suspicious(error, others_commit) => {
            part.refuse(&reason(error));
            Vec::new()
        }
        None => {
            tracing::debug!(sagas = part.len(), error = %ErrorChain(&error), "a batch of starts failed; splitting it");
            halves(part)
        }
    }
}

/// The halves of a part, the second first.
fn halves(part: Part) -> Vec<Part> {
    let (first, second) = part.split();
    vec![second, first]
}

/// Lets a single start wait for the lock that it needs.
pub(super) fn wait(starter: &Arc<Starter>, part: Part) {
    let Some(saga) = part.only() else { return };
    starter.blocked.insert(saga);
    match starter.waiting_room.clone().try_acquire_owned() {
        Ok(room) => starter.spawn(wait_for_lock(starter.clone(), part, room)),
        Err(_) => part.refuse("too many starts wait for locks that other transactions hold"),
    }
}

async fn wait_for_lock(starter: Arc<Starter>, mut part: Part, _room: OwnedSemaphorePermit) {
    let Some(saga) = part.only().cloned() else { return };
    let until = Instant::now() + LOCK_PATIENCE;
    let mut lock_wait = LOCK_WAIT;
    loop {
        part.forget_abandoned();
        if part.is_empty() {
            return;
        }
        let why = match try_waiting(&starter, &mut part, lock_wait, until).await {
            Ok(answers) => {
                starter.blocked.remove(&saga);
                return part.answer(answers);
            }
            Err(Some(error)) if !is_blocked(&error) => return part.refuse(&reason(&error)),
            Err(error) => error.as_ref().map_or_else(|| "it waits behind others for a lock".into(), reason),
        };
        starter.blocked.insert(&saga);
        if Instant::now() + lock_wait >= until {
            metrics::counter!(STARTS_BLOCKED, "definition" => saga.definition.into_owned()).increment(1);
            return part.refuse(&why);
        }
        tokio::select! {
            () = starter.core.stop.cancelled() => return part.refuse("the engine is shutting down"),
            () = tokio::time::sleep(jittered(lock_wait)) => {}
        }
        lock_wait = (lock_wait * 2).min(MAX_LOCK_WAIT);
    }
}

/// Tries to commit a waiting start as soon as few others are being tried; the error is `None` if that takes too long.
async fn try_waiting(
    starter: &Starter,
    part: &mut Part,
    lock_wait: Duration,
    until: Instant,
) -> Result<Answers, Option<StepError>> {
    let patience = until.saturating_duration_since(Instant::now());
    let acquired = tokio::time::timeout(patience, starter.trying.acquire()).await;
    let Ok(Ok(_permit)) = acquired else { return Err(None) };
    let limits = Limits { lock_wait, work: WORK_LIMIT };
    commit_with_retries(&starter.core, part, limits, MAX_TRIES).await.map_err(Some)
}

async fn commit_with_retries(
    core: &Arc<Core>,
    part: &mut Part,
    limits: Limits,
    max_tries: u32,
) -> Result<Answers, StepError> {
    let mut pause = Duration::from_millis(5);
    for _ in 1..max_tries {
        match part.commit(core, limits).await {
            Err(error) if is_retryable(&error) => {
                tracing::debug!(error = %ErrorChain(&error), "a batch of starts failed with a transient error; retrying");
                tokio::time::sleep(jittered(pause)).await;
                pause *= 4;
            }
            other => return other,
        }
    }
    part.commit(core, limits).await
}
