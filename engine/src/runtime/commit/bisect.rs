//! Commits in isolation, beside the group commit. Batches that failed are bisected until the saga at fault is alone,
//! and sagas that may delay others are committed alone.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;

use crate::{
    model::{ids::SagaId, outcome::chain, status::StepSide},
    runtime::{
        commit::{
            advance::CommitPath,
            attempt::{AttemptOptions, commit_with_retries},
            error::CommitError,
            recovery::Recovery,
            settle::{GroupCommitter, release_all, release_transient, settle, unzip, zip},
            suspects::Verdict,
        },
        messages::CommitRequest,
    },
    support::{jitter::jittered, metrics::LOCK_BLOCKED},
};

/// How long a saga is postponed whose outcome can't be written.
const UNWRITABLE_BACKOFF: Duration = Duration::from_secs(15);
/// How long part of a batch waits for a lock after a lock time-out; also the first limit for a single saga.
const LOCK_WAIT: Duration = Duration::from_millis(100);
const MAX_LOCK_WAIT: Duration = Duration::from_millis(1500);
/// How long a saga is first postponed after a lock time-out.
const LOCK_BACKOFF: Duration = Duration::from_millis(100);
const MAX_LOCK_BACKOFF: Duration = Duration::from_secs(5);
/// How long a saga is first postponed after an error that may pass.
const ERROR_BACKOFF: Duration = Duration::from_millis(100);
const MAX_ERROR_BACKOFF: Duration = Duration::from_secs(15);
/// How often the answer of a call is tried again before it is given up, so that its saga does not stay here for ever.
const MAX_ROUNDS_WITH_ANSWER: u32 = 64;
/// Consecutive failures of a saga before a warning is logged.
const WARN_AFTER: u32 = 5;

/// Part of a batch, and the recovery that is applied to it.
pub(super) struct Part {
    requests: Vec<CommitRequest>,
    recovery: Recovery,
    /// Whether this recovery has failed before, and is tried once more before the saga is dead-lettered.
    is_retry: bool,
}

impl Part {
    pub(super) fn whole(requests: Vec<CommitRequest>) -> Self {
        Self { requests, recovery: Recovery::None, is_retry: false }
    }

    /// The saga, if it is the only one.
    fn only(&self) -> Option<SagaId> {
        let [request] = self.requests.as_slice() else { return None };
        Some(request.member.job.saga_id)
    }
}

/// Commits a part in isolation, in a separate task; few run at a time. `error` is the error that the group commit met.
pub(super) fn commit_isolated(committer: &Arc<GroupCommitter>, part: Part, error: Option<CommitError>) {
    let committer = committer.clone();
    let tasks = committer.core.tasks.clone();
    tasks.spawn(async move {
        // The semaphore is never closed, so `acquire` can't fail.
        let Ok(_permit) = committer.permits.acquire().await else { return };
        if AssertUnwindSafe(bisect(&committer, part, error)).catch_unwind().await.is_err() {
            tracing::error!("committing a batch panicked; its sagas are taken over when their leases end");
        }
    });
}

/// Commits a part. If it fails, splits it in halves until the saga at fault is alone.
async fn bisect(committer: &GroupCommitter, part: Part, error: Option<CommitError>) {
    let mut parts = match error {
        Some(error) => next_parts(committer, part, error, CommitPath::Grouped),
        None => vec![part],
    };
    while let Some(Part { requests, recovery, is_retry }) = parts.pop() {
        let alone = if let [request] = requests.as_slice() { Some(&request.member) } else { None };
        let lock_wait = match alone {
            None => Some(LOCK_WAIT),
            Some(member) if member.made_call() => None,
            Some(member) => {
                let times = committer.isolated.times(member.job.saga_id);
                Some(doubled(LOCK_WAIT, times, MAX_LOCK_WAIT))
            }
        };
        let options = AttemptOptions { path: CommitPath::Isolated, lock_wait };
        let (replies, members) = unzip(requests);
        match commit_with_retries(&committer.core, &members, &recovery, options).await {
            Ok(result) => {
                // A saga with a step that fails its batch stays isolated, and is committed alone next time, too.
                if !matches!(recovery, Recovery::FailSteps(_)) {
                    for member in &members {
                        committer.isolated.forget(member.job.saga_id);
                    }
                }
                for member in &members {
                    committer.suspects.forget(member.job.saga_id);
                }
                settle(&committer.core, members, replies, result);
            }
            Err(error) => {
                let part = Part { requests: zip(members, replies), recovery, is_retry };
                parts.extend(next_parts(committer, part, error, CommitPath::Isolated));
            }
        }
    }
}

/// The parts to try next, in reverse order.
fn next_parts(committer: &GroupCommitter, part: Part, error: CommitError, path: CommitPath) -> Vec<Part> {
    match (part.only(), error) {
        (_, CommitError::Unreachable(error)) => {
            release_transient(&committer.core, part.requests, &error);
            Vec::new()
        }
        (None, CommitError::Transient { error, .. }) => {
            tracing::debug!(error = %error, "a batch failed repeatedly with a transient error; splitting it");
            split(part)
        }
        (Some(saga_id), CommitError::Transient { blame, side, error }) => {
            committer.isolated.insert(saga_id);
            match committer.suspects.count(saga_id, blame, committer.core.commits()) {
                Verdict::AtFault => recover(committer, part, side, &chain(&error)),
                Verdict::Open(rounds) => try_later(committer, part, rounds, &error),
            }
        }
        (None, CommitError::LockTimeout(error)) => {
            tracing::debug!(error = %error, "a batch timed out waiting for a lock; splitting it");
            split(part)
        }
        (None, CommitError::Step { error, .. }) => {
            tracing::debug!(error = ?error, "a batch failed; splitting it");
            split(part)
        }
        // The answer of a call has to be written, so it is tried again.
        (Some(saga_id), CommitError::LockTimeout(_)) if part.requests[0].member.made_call() => {
            committer.isolated.insert(saga_id);
            vec![part]
        }
        (Some(saga_id), CommitError::LockTimeout(error)) => {
            release_lock_blocked(committer, saga_id, part.requests, &error);
            Vec::new()
        }
        // In the group commit it had only the time limit of a batch; in isolation it has its whole time-out.
        (Some(saga_id), CommitError::Step { cancelled_mid_statement: true, .. })
            if path == CommitPath::Grouped =>
        {
            committer.isolated.insert(saga_id);
            vec![part]
        }
        (Some(saga_id), CommitError::Step { side, error, .. }) => {
            committer.isolated.insert(saga_id);
            recover(committer, part, side, &error)
        }
    }
}

fn recover(committer: &GroupCommitter, part: Part, side: Option<StepSide>, error: &[String]) -> Vec<Part> {
    let Part { requests, recovery, is_retry } = part;
    let member = &requests[0].member;
    let saga_id = member.job.saga_id;
    // What can't be written may be the answer of the call itself.
    let side = side.or_else(|| member.call_site());
    match recovery.clone().next(side, error.to_vec()) {
        Some(Recovery::DeadLetter(_)) if !is_retry => {
            return vec![Part { requests, recovery, is_retry: true }];
        }
        Some(recovery) => {
            if matches!(recovery, Recovery::DeadLetter(_)) {
                tracing::error!(saga.id = %saga_id, error = ?error, "a saga's outcome can't be written; it is dead-lettered");
            }
            return vec![Part { requests, recovery, is_retry: false }];
        }
        None => {}
    }
    tracing::error!(saga.id = %saga_id, error = ?error, "a saga can't even be dead-lettered; it is postponed");
    release_all(&committer.core, requests, UNWRITABLE_BACKOFF, None);
    Vec::new()
}

/// Releases a saga that failed alone with an error that may pass, for a delay that grows each time. No attempt is counted,
/// and the error is stored with the saga. The answer of a call is kept and tried again at once.
fn try_later(committer: &GroupCommitter, part: Part, rounds: u32, error: &sqlx::Error) -> Vec<Part> {
    if part.requests[0].member.made_call() && rounds < MAX_ROUNDS_WITH_ANSWER {
        return vec![part];
    }
    if rounds >= WARN_AFTER {
        tracing::warn!(saga.id = ?part.only(), rounds, error = %error, "a saga repeatedly failed with a transient error");
    }
    let delay = jittered(doubled(ERROR_BACKOFF, rounds - 1, MAX_ERROR_BACKOFF));
    let error = format!("can't be committed now: {error}");
    release_all(&committer.core, part.requests, delay, Some(&error));
    Vec::new()
}

/// Releases a saga that needs a lock which another transaction holds. No attempt is counted; the delay grows each time,
/// and the error is stored with the saga so that operators see it.
fn release_lock_blocked(
    committer: &GroupCommitter,
    saga_id: SagaId,
    requests: Vec<CommitRequest>,
    error: &sqlx::Error,
) {
    let times = committer.isolated.count_lock_timeout(saga_id);
    let definition =
        requests.first().map_or_else(String::new, |request| request.member.job.definition_name.to_string());
    if times >= WARN_AFTER {
        tracing::warn!(saga.id = %saga_id, saga.definition = definition, times, "a saga repeatedly timed out waiting for a lock");
    }
    metrics::counter!(LOCK_BLOCKED, "definition" => definition).increment(1);
    let delay = jittered(doubled(LOCK_BACKOFF, times, MAX_LOCK_BACKOFF));
    let error = format!("waits for a lock that another transaction holds: {error}");
    release_all(&committer.core, requests, delay, Some(&error));
}

fn doubled(first: Duration, times: u32, max: Duration) -> Duration {
    first.saturating_mul(1 << times.min(16)).min(max)
}

fn split(part: Part) -> Vec<Part> {
    metrics::counter!("sagaline_batch_splits_total").increment(1);
    let mut requests = part.requests;
    let second = requests.split_off(requests.len() / 2);
    vec![Part::whole(second), Part::whole(requests)]
}
