//! Beside a lane: batches that met trouble are split down to the sagas at fault, and sagas that may hold others up are alone.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::FutureExt;

use crate::runtime::commit::{
    attempt::{AttemptOptions, commit_with_retries},
    group_commit::{
        CommitPath, CommitRequest, GroupCommitter, release_all, release_transient, settle, unzip, zip,
    },
};
use crate::{
    model::ids::SagaId,
    runtime::commit::{advance::Recovery, error::CommitError},
    support::metrics::LOCK_BLOCKED,
};

/// A saga whose outcome can't be written is left alone this long.
const UNWRITABLE_BACKOFF: Duration = Duration::from_secs(15);
/// How long a part of a batch that was held up waits for a lock, and a saga at first.
const LOCK_WAIT: Duration = Duration::from_millis(100);
const MAX_LOCK_WAIT: Duration = Duration::from_millis(1500);
/// How long a saga that was held up is left alone at first.
const LOCK_BACKOFF: Duration = Duration::from_millis(100);
const MAX_LOCK_BACKOFF: Duration = Duration::from_secs(5);
/// Consecutive lock time-outs before a warning is logged.
const WARN_AFTER: u32 = 5;
/// Upper bound of remembered sagas; the map is cleared when it is reached.
const MAX_TRACKED: usize = 10_000;

/// Sagas that met trouble alone: until they get through they don't join a batch again, which would have to be split for
/// them each time. Only a memory: without it batches are slower, not wrong.
#[derive(Debug, Default)]
pub(super) struct IsolatedSagas {
    /// How often in a row each was held up by a lock.
    held_up: Mutex<HashMap<SagaId, u32>>,
}

impl IsolatedSagas {
    pub(super) fn contains(&self, saga_id: SagaId) -> bool {
        let known = self.known();
        !known.is_empty() && known.contains_key(&saga_id)
    }

    fn insert(&self, saga_id: SagaId) {
        let mut known = self.known();
        if known.len() >= MAX_TRACKED {
            known.clear();
        }
        known.entry(saga_id).or_default();
    }

    /// Counts that a saga was held up, and tells how often it was before.
    fn count_lock_timeout(&self, saga_id: SagaId) -> u32 {
        self.insert(saga_id);
        let mut known = self.known();
        let count = known.entry(saga_id).or_default();
        *count += 1;
        *count - 1
    }

    fn times(&self, saga_id: SagaId) -> u32 {
        self.known().get(&saga_id).copied().unwrap_or_default()
    }

    fn forget(&self, saga_id: SagaId) {
        self.known().remove(&saga_id);
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<SagaId, u32>> {
        self.held_up.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Some sagas of a batch, and what is known to help.
pub(super) struct Part {
    requests: Vec<CommitRequest>,
    recovery: Recovery,
}

impl Part {
    pub(super) fn whole(requests: Vec<CommitRequest>) -> Self {
        Self { requests, recovery: Recovery::None }
    }

    /// The saga, if it is alone.
    fn only(&self) -> Option<SagaId> {
        let [request] = self.requests.as_slice() else { return None };
        Some(request.member.job.saga_id)
    }
}

impl GroupCommitter {
    /// Commits a part aside, in a task of its own and a few at a time; `trouble` is what it met in the lane.
    pub(super) fn commit_isolated(self: Arc<Self>, part: Part, trouble: Option<CommitError>) {
        let tasks = self.core.tasks.clone();
        tasks.spawn(async move {
            // It is never closed.
            let Ok(_place) = self.places.acquire().await else { return };
            if AssertUnwindSafe(self.bisect(part, trouble)).catch_unwind().await.is_err() {
                tracing::error!(
                    "committing a batch panicked; its sagas are taken over when their leases end"
                );
            }
        });
    }

    /// Commits a part, in smaller ones where it must: what fails is split in halves until the saga at fault is alone.
    async fn bisect(&self, part: Part, trouble: Option<CommitError>) {
        let mut parts = match trouble {
            Some(trouble) => self.next_parts(part, trouble, CommitPath::Grouped),
            None => vec![part],
        };
        while let Some(Part { requests, recovery }) = parts.pop() {
            let alone = if let [request] = requests.as_slice() { Some(&request.member) } else { None };
            let lock_wait = match alone {
                None => Some(LOCK_WAIT),
                Some(member) if member.made_call() => None,
                Some(member) => {
                    let times = self.isolated.times(member.job.saga_id);
                    Some(doubled(LOCK_WAIT, times, MAX_LOCK_WAIT))
                }
            };
            let options = AttemptOptions { path: CommitPath::Isolated, lock_wait };
            let (replies, members) = unzip(requests);
            match commit_with_retries(&self.core, &members, &recovery, options).await {
                Ok(result) => {
                    // One that was blamed for its failure is to be tried alone again.
                    if !matches!(recovery, Recovery::FailSteps(_)) {
                        for member in &members {
                            self.isolated.forget(member.job.saga_id);
                        }
                    }
                    settle(&self.core, members, replies, result);
                }
                Err(trouble) => {
                    let part = Part { requests: zip(members, replies), recovery };
                    parts.extend(self.next_parts(part, trouble, CommitPath::Isolated));
                }
            }
        }
    }

    /// What is tried next, the last of them first.
    fn next_parts(&self, part: Part, trouble: CommitError, path: CommitPath) -> Vec<Part> {
        match (part.only(), trouble) {
            (_, CommitError::Transient(error)) => {
                release_transient(&self.core, part.requests, &error);
                Vec::new()
            }
            (None, CommitError::LockTimeout(error)) => {
                tracing::debug!(error = %error, "a batch waited for a lock in vain; splitting it");
                split(part)
            }
            (None, CommitError::Step { error, .. }) => {
                tracing::debug!(error = ?error, "a batch failed; splitting it");
                split(part)
            }
            // There is an answer of the outside world to be written.
            (Some(saga_id), CommitError::LockTimeout(_)) if part.requests[0].member.made_call() => {
                self.isolated.insert(saga_id);
                vec![part]
            }
            (Some(saga_id), CommitError::LockTimeout(error)) => {
                self.release_lock_blocked(saga_id, part.requests, &error);
                Vec::new()
            }
            // It had no more than a turn of its time.
            (Some(saga_id), CommitError::Step { cancelled_mid_statement: true, .. })
                if path == CommitPath::Grouped =>
            {
                self.isolated.insert(saga_id);
                vec![part]
            }
            (Some(saga_id), CommitError::Step { at, error, .. }) => {
                self.isolated.insert(saga_id);
                self.recovery(part, at, &error)
            }
        }
    }

    fn recovery(
        &self,
        part: Part,
        at: Option<(crate::model::status::Direction, usize)>,
        error: &[String],
    ) -> Vec<Part> {
        let Part { requests, recovery } = part;
        let member = &requests[0].member;
        let saga_id = member.job.saga_id;
        // What can't be written may be the answer of the call itself.
        let at = at.or_else(|| member.call_site());
        if let Some(recovery) = recovery.next(at, error.to_vec()) {
            if matches!(recovery, Recovery::DeadLetter(_)) {
                tracing::error!(saga.id = %saga_id, error = ?error, "a saga's outcome can't be written; it is parked");
            }
            return vec![Part { requests, recovery }];
        }
        tracing::error!(saga.id = %saga_id, error = ?error, "a saga can't even be parked; it is set aside");
        release_all(&self.core, requests, UNWRITABLE_BACKOFF, None);
        Vec::new()
    }

    /// Gives a saga back that needs a lock which somebody else holds: for a little longer each time, at no cost, and so
    /// that it shows.
    fn release_lock_blocked(&self, saga_id: SagaId, requests: Vec<CommitRequest>, error: &sqlx::Error) {
        let times = self.isolated.count_lock_timeout(saga_id);
        let definition = requests
            .first()
            .map_or_else(String::new, |request| request.member.job.definition_name.to_string());
        if times >= WARN_AFTER {
            tracing::warn!(saga.id = %saga_id, saga.definition = definition, times, "a saga waits for a lock that somebody keeps");
        }
        metrics::counter!(LOCK_BLOCKED, "definition" => definition).increment(1);
        let delay = crate::support::jitter::jittered(doubled(LOCK_BACKOFF, times, MAX_LOCK_BACKOFF));
        let error = format!("waits for a lock that somebody else holds: {error}");
        release_all(&self.core, requests, delay, Some(&error));
    }
}

fn doubled(first: Duration, times: u32, most: Duration) -> Duration {
    first.saturating_mul(1 << times.min(16)).min(most)
}

fn split(part: Part) -> Vec<Part> {
    metrics::counter!("sagaline_set_splits_total").increment(1);
    let mut requests = part.requests;
    let second = requests.split_off(requests.len() / 2);
    vec![Part::whole(second), Part::whole(requests)]
}
