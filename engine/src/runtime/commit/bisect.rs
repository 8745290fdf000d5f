//! Commits in isolation, beside the group commit. Batches that failed are bisected until the saga at fault is alone,
//! and sagas that may delay others are committed alone.

use std::{collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;

use crate::{
    model::error_chain::ErrorChain,
    model::{
        ids::SagaId,
        outcome::{Outcome, chain},
        status::StepSide,
    },
    runtime::{
        commit::{
            attempt::{AttemptOptions, commit_with_retries},
            blocked_rows::RowState,
            commit_path::CommitPath,
            error::CommitError,
            held_up::Obstacle,
            recovery::Recovery,
            settle::{
                GroupCommitter, give_back, give_back_held_up, release_all, release_transient, settle, unzip,
                zip,
            },
            suspects::Verdict,
        },
        job::Job,
        messages::CommitRequest,
    },
    store::locks::LockHolder,
    support::{jitter::jittered, metrics::LOCK_BLOCKED},
};

/// How long a saga is postponed whose outcome can't be written.
const UNWRITABLE_BACKOFF: Duration = Duration::from_secs(15);
/// How long part of a batch waits for a lock.
const LOCK_WAIT: Duration = Duration::from_millis(100);
/// The same after the batch has waited for a lock in vain, and while sagas are held up: the sagas that need the lock are
/// to be found soon, because everything else that meets it waits meanwhile.
const SHORT_LOCK_WAIT: Duration = Duration::from_millis(20);
/// How long a saga waits for a lock when it is tried again, because its holder may end soon: somewhat longer than a batch
/// of this engine does, since such a batch may hold the lock while it waits for another.
const SECOND_LOCK_WAIT: Duration = Duration::from_millis(400);
/// How long sagas are postponed for which there is no room beside the group commit.
const NO_ROOM_BACKOFF: Duration = Duration::from_secs(1);
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
    /// How long it waits for a lock, if it has waited in vain before and is not yet taken to be held up.
    second_lock_wait: Option<Duration>,
}

impl Part {
    pub(super) fn whole(requests: Vec<CommitRequest>) -> Self {
        Self { requests, recovery: Recovery::None, is_retry: false, second_lock_wait: None }
    }

    /// The saga, if it is the only one.
    fn only(&self) -> Option<SagaId> {
        let [request] = self.requests.as_slice() else { return None };
        Some(request.member.job.saga_id)
    }
}

/// Commits a part in isolation, in a separate task; few run at a time. `error` is the error that it met before, and
/// where.
///
/// The sagas give their slots back, so that the feed claims others meanwhile. If there is no room for them here, they
/// are postponed.
pub(super) fn commit_isolated(
    committer: &Arc<GroupCommitter>,
    mut part: Part,
    error: Option<(CommitError, CommitPath)>,
) {
    let count = u32::try_from(part.requests.len()).unwrap_or(u32::MAX);
    let must_stay = part.requests.iter().any(|request| request.member.made_call());
    let room = committer.room.clone().try_acquire_many_owned(count).ok();
    if room.is_none() && !must_stay {
        release_all(&committer.core, part.requests, jittered(NO_ROOM_BACKOFF), None);
        return;
    }
    for request in &mut part.requests {
        request.member.job.slots.free();
    }
    let committer = committer.clone();
    let tasks = committer.core.tasks.clone();
    tasks.spawn(async move {
        let _room = room;
        // The semaphore is never closed, so `acquire` can't fail.
        let Ok(_permit) = committer.permits.acquire().await else { return };
        if AssertUnwindSafe(bisect(&committer, part, error)).catch_unwind().await.is_err() {
            tracing::error!("committing a batch panicked; its sagas are taken over when their leases end");
        }
    });
}

/// Commits a part. If it fails, splits it in halves until the saga at fault is alone.
async fn bisect(committer: &GroupCommitter, part: Part, error: Option<(CommitError, CommitPath)>) {
    let mut lock_is_held = matches!(error, Some((CommitError::LockTimeout { .. }, _)));
    let mut parts = match error {
        Some((error, path)) => next_parts(committer, part, error, path),
        None => vec![part],
    };
    while let Some(Part { requests, recovery, is_retry, second_lock_wait }) = parts.pop() {
        // What the parts before have met may be what these sagas wait for.
        let (mut requests, suspected) = hold_up_if_blocked(committer, requests);
        requests.extend(suspected.into_iter().flatten());
        if requests.is_empty() {
            continue;
        }
        let alone = if let [request] = requests.as_slice() { Some(&request.member) } else { None };
        let first_lock_wait =
            if lock_is_held || !committer.held_up.is_empty() { SHORT_LOCK_WAIT } else { LOCK_WAIT };
        let lock_wait = second_lock_wait.unwrap_or(first_lock_wait);
        let options = match alone {
            // The answer of a call can't be given back.
            Some(member) if member.made_call() => AttemptOptions { path: CommitPath::Alone, lock_wait: None },
            // A queue has one saga on probation at a time.
            Some(member) if member.job.isolated => {
                AttemptOptions { path: CommitPath::Alone, lock_wait: Some(lock_wait) }
            }
            _ => AttemptOptions { path: CommitPath::Split, lock_wait: Some(lock_wait) },
        };
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
                    got_through(committer, &member.job);
                }
                settle(&committer.core, members, replies, result);
            }
            Err(error) => {
                lock_is_held |= matches!(error, CommitError::LockTimeout { .. });
                let part = Part { requests: zip(members, replies), recovery, is_retry, second_lock_wait };
                parts.extend(next_parts(committer, part, error, options.path));
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
            tracing::debug!(error = %ErrorChain(&error), "a batch failed repeatedly with a transient error; splitting it");
            split(part)
        }
        (Some(saga_id), CommitError::Transient { blame, side, error }) => {
            committer.isolated.insert(saga_id);
            match committer.suspects.count(saga_id, blame, committer.core.commits()) {
                Verdict::AtFault => recover(committer, part, side, &chain(&error)),
                Verdict::Open(rounds) => try_later(committer, part, rounds, &error),
            }
        }
        (None, CommitError::LockTimeout { error, .. }) => {
            tracing::debug!(error = %ErrorChain(&error), "a batch timed out waiting for a lock; splitting it");
            split(part)
        }
        (None, CommitError::OutputTooLarge { failure, .. }) => {
            tracing::debug!(error = failure.message, "a batch has an output that is too large; splitting it");
            split(part)
        }
        (None, CommitError::PutOff { .. }) => split(part),
        (Some(saga_id), CommitError::PutOff { side, retry }) => {
            committer.isolated.insert(saga_id);
            let recovery = part.recovery.with_outcome(side, Outcome::Retry(*retry));
            vec![Part { recovery, is_retry: false, ..part }]
        }
        (None, CommitError::Step { error, .. }) => {
            tracing::debug!(error = ?error, "a batch failed; splitting it");
            split(part)
        }
        // The answer of a call has to be written, so it is tried again.
        (Some(saga_id), CommitError::LockTimeout { .. }) if part.requests[0].member.made_call() => {
            committer.isolated.insert(saga_id);
            vec![part]
        }
        (Some(_), CommitError::LockTimeout { holder, .. })
            if part.second_lock_wait.is_none() && second_lock_wait(holder.as_ref()).is_some() =>
        {
            vec![Part { second_lock_wait: second_lock_wait(holder.as_ref()), ..part }]
        }
        (Some(_), CommitError::LockTimeout { side, error, holder }) => {
            hold_up_at_lock(committer, part.requests, side, &error, holder.as_ref());
            Vec::new()
        }
        (Some(saga_id), CommitError::OutputTooLarge { side: Some(side), failure }) => {
            committer.isolated.insert(saga_id);
            let recovery = part.recovery.with_outcome(side, Outcome::Fail(failure));
            vec![Part { recovery, is_retry: false, ..part }]
        }
        (Some(saga_id), CommitError::OutputTooLarge { side: None, failure }) => {
            committer.isolated.insert(saga_id);
            recover(committer, part, None, &[failure.message])
        }
        // A batch and its parts have little time. The scouts give it its whole time-out, one saga after the other.
        (Some(_), CommitError::Step { side, cancelled_mid_statement: true, .. })
            if path != CommitPath::Alone && !part.requests[0].member.made_call() =>
        {
            hold_up_as_slow(committer, part.requests, side);
            Vec::new()
        }
        (Some(_), CommitError::Step { cancelled_mid_statement: true, .. }) if path != CommitPath::Alone => {
            vec![part]
        }
        (Some(saga_id), CommitError::Step { side, error, .. }) => {
            committer.isolated.insert(saga_id);
            recover(committer, part, side, &error)
        }
    }
}

/// How long a saga that has waited for a lock in vain waits once more; `None` if it is held up. Otherwise a saga would be
/// taken to be held up that is only behind a batch of this engine.
fn second_lock_wait(holder: Option<&LockHolder>) -> Option<Duration> {
    match holder {
        // It was not told in the short time.
        None => Some(LOCK_WAIT),
        Some(holder) => holder.may_end_soon().then_some(SECOND_LOCK_WAIT),
    }
}

fn recover(committer: &GroupCommitter, part: Part, side: Option<StepSide>, error: &[String]) -> Vec<Part> {
    let Part { requests, recovery, is_retry, .. } = part;
    let member = &requests[0].member;
    let saga_id = member.job.saga_id;
    // What can't be written may be the answer of the call itself.
    let side = side.or_else(|| member.call_site());
    match recovery.clone().next(side, error.to_vec()) {
        Some(Recovery::DeadLetter(_)) if !is_retry => {
            return vec![Part { requests, recovery, is_retry: true, second_lock_wait: None }];
        }
        Some(recovery) => {
            if matches!(recovery, Recovery::DeadLetter(_)) {
                tracing::error!(saga.id = %saga_id, error = ?error, "a saga's outcome can't be written; it is dead-lettered");
            }
            return vec![Part { requests, recovery, is_retry: false, second_lock_wait: None }];
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
        tracing::warn!(saga.id = ?part.only(), rounds, error = %ErrorChain(&error), "a saga repeatedly failed with a transient error");
    }
    let delay = jittered(doubled(ERROR_BACKOFF, rounds - 1, MAX_ERROR_BACKOFF));
    let error = format!("can't be committed now: {error}");
    release_all(&committer.core, part.requests, delay, Some(&error));
    Vec::new()
}

/// Gives back a saga that needs a lock which another transaction holds. No attempt is counted, and the error is stored
/// with the saga so that operators see it.
fn hold_up_at_lock(
    committer: &GroupCommitter,
    requests: Vec<CommitRequest>,
    side: Option<StepSide>,
    error: &sqlx::Error,
    holder: Option<&LockHolder>,
) {
    for request in &requests {
        let job = &request.member.job;
        metrics::counter!(LOCK_BLOCKED, "definition" => job.definition_name.to_string()).increment(1);
        let obstacle = Obstacle::Lock {
            side: side.unwrap_or_else(|| job.state.side()),
            holder: holder.map(|holder| holder.pid),
        };
        if committer.held_up.is_empty() {
            tracing::warn!(
                saga.id = %job.saga_id, saga.definition = %job.definition_name, holder = holder.map(ToString::to_string),
                "a saga waits for a lock that another transaction holds; others that need it wait beside it"
            );
        }
        committer.held_up.insert(job.saga_id, job.state.side(), obstacle);
        if side.is_none_or(|side| side == job.state.side()) {
            committer.blocked_rows.held_up(job.state.step_index, &job.locks(), obstacle);
        }
    }
    give_back_held_up(&committer.core, requests, Some((error, holder)));
}

/// Holds those sagas up that want a row which another transaction has locked. Returns the others, and apart from them, by
/// the rows that they want, those of which it is not certain.
pub(super) fn hold_up_if_blocked(
    committer: &GroupCommitter,
    requests: Vec<CommitRequest>,
) -> (Vec<CommitRequest>, Vec<Vec<CommitRequest>>) {
    if committer.blocked_rows.is_empty() {
        return (requests, Vec::new());
    }
    let (mut free, mut suspected, mut held_up) = (Vec::new(), BTreeMap::<_, Vec<_>>::new(), Vec::new());
    for request in requests {
        let job = &request.member.job;
        // The answer of a call can't be given back, and a cancel or a passed deadline does not wait.
        let rows = if request.member.made_call() || job.interrupted { Vec::new() } else { job.locks() };
        match committer.blocked_rows.state(job.state.step_index, &rows) {
            RowState::Free => free.push(request),
            RowState::Suspected => suspected.entry(rows).or_default().push(request),
            RowState::Locked(obstacle) => {
                metrics::counter!(LOCK_BLOCKED, "definition" => job.definition_name.to_string()).increment(1);
                committer.held_up.insert(job.saga_id, job.state.side(), obstacle);
                held_up.push(request);
            }
        }
    }
    if !held_up.is_empty() {
        give_back(&committer.core, held_up, Some("waits for a lock that another transaction holds"));
    }
    (free, suspected.into_values().collect())
}

/// Notes that a saga got through with the rows that it wants.
pub(super) fn got_through(committer: &GroupCommitter, job: &Job) {
    if !committer.blocked_rows.is_empty() {
        committer.blocked_rows.got_through(job.state.step_index, &job.locks());
    }
}

/// Gives back a saga whose step takes longer than a batch may, until it is tried alone. No attempt is counted.
fn hold_up_as_slow(committer: &GroupCommitter, requests: Vec<CommitRequest>, side: Option<StepSide>) {
    for request in &requests {
        let job = &request.member.job;
        let side = side.unwrap_or_else(|| job.state.side());
        committer.held_up.insert(job.saga_id, job.state.side(), Obstacle::Slow { side });
    }
    let why = "its step takes longer than a batch may; it is tried alone when its turn comes";
    give_back(&committer.core, requests, Some(why));
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
