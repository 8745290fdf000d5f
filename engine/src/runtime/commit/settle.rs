//! Settles a batch after its transaction: replies to workers, dispatches the next jobs, or releases the claims.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Semaphore, oneshot};

use crate::{
    model::{ids::SagaId, nul_character::replace_nul},
    runtime::{
        commit::{advance::BatchResult, suspects::Suspects},
        core::Core,
        effects,
        job::Committed,
        messages::{BatchMember, CommitRequest},
    },
    store::claims::ReleaseRow,
};

/// The group commit of one definition.
pub(super) struct GroupCommitter {
    pub(super) core: Arc<Core>,
    /// Limits the transactions that run in isolation.
    pub(super) permits: Semaphore,
    pub(super) isolated: IsolatedSagas,
    pub(super) suspects: Suspects,
}

/// Replies to the workers of a committed batch and dispatches the next jobs.
pub(super) fn settle(
    core: &Arc<Core>,
    members: Vec<BatchMember>,
    replies: Vec<oneshot::Sender<Committed>>,
    result: BatchResult,
) {
    if result.crash.is_set() {
        // Simulates a dead process: claims stay leased, and no worker gets a reply.
        return;
    }
    let mut jobs: Vec<_> = members.into_iter().map(|member| Some(member.job)).collect();
    if let Some(delay) = result.next_due
        && let Some(queue) = jobs.iter().flatten().next().map(|job| job.queue.clone())
    {
        core.feeds.wake_after(&queue, delay);
    }
    for index in &result.lost {
        if let Some(job) = &jobs[*index] {
            tracing::warn!(saga.id = %job.saga_id, saga.epoch = job.epoch, "a claim was lost; its work was dropped");
            metrics::counter!("sagaline_claims_lost_total").increment(1);
        }
    }
    let continuations: Vec<_> = result
        .continuing
        .into_iter()
        .filter_map(|(index, continuation)| jobs[index].take().map(|job| continuation.job(job)))
        .collect();
    effects::publish(core, result.effects);
    drop(jobs);
    // The next jobs are dispatched first, as `Engine::commit` promises to the workers that get a reply below.
    for job in continuations {
        effects::dispatch(core, job);
    }
    for (index, reply) in replies.into_iter().enumerate() {
        let committed = if result.lost.contains(&index) { Committed::Lost } else { Committed::Applied };
        // A worker that was dropped needs no reply.
        let _ = reply.send(committed);
    }
}

/// Releases a batch that failed after all retries.
pub(super) fn release_transient(core: &Arc<Core>, requests: Vec<CommitRequest>, error: &sqlx::Error) {
    tracing::warn!(sagas = requests.len(), error = %error, "gave up a batch: the database can't be reached");
    release_all(core, requests, Duration::ZERO, None);
}

/// Releases claims without an outcome; the sagas are due again after `delay`. `error` is stored with them as the
/// reason.
pub(super) fn release_all(
    core: &Arc<Core>,
    requests: Vec<CommitRequest>,
    delay: Duration,
    error: Option<&str>,
) {
    let (replies, members) = unzip(requests);
    let delay_ms = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
    let rows = members.iter().map(|member| {
        // A call that was made counts as an attempt and is in doubt; a transaction left no effect.
        let job = &member.job;
        let row = if member.made_call() { job.release_after_call() } else { job.unstarted_release() };
        ReleaseRow { delay_ms, error: error.map(|error| replace_nul(error.into())), ..row }
    });
    core.leases.queue_release(rows);
    core.lease_wakeup.notify_one();
    if let Some(member) = members.first() {
        core.feeds.wake_after(&member.job.queue, delay);
    }
    drop(members);
    for reply in replies {
        let _ = reply.send(Committed::Lost);
    }
}

pub(super) fn zip(members: Vec<BatchMember>, replies: Vec<oneshot::Sender<Committed>>) -> Vec<CommitRequest> {
    members.into_iter().zip(replies).map(|(member, reply)| CommitRequest { member, reply }).collect()
}

pub(super) fn unzip(requests: Vec<CommitRequest>) -> (Vec<oneshot::Sender<Committed>>, Vec<BatchMember>) {
    requests.into_iter().map(|request| (request.reply, request.member)).unzip()
}

/// Sagas that failed alone. Until they are committed they don't join a batch again, which would have to be split
/// because of them each time. Losing this memory makes batches slower, not wrong.
#[derive(Debug, Default)]
pub(super) struct IsolatedSagas {
    /// Consecutive lock time-outs of each saga.
    lock_timeouts: Mutex<HashMap<SagaId, u32>>,
}

impl IsolatedSagas {
    pub(super) fn contains(&self, saga_id: SagaId) -> bool {
        let known = self.known();
        !known.is_empty() && known.contains_key(&saga_id)
    }

    pub(super) fn insert(&self, saga_id: SagaId) {
        let mut known = self.known();
        if known.len() >= MAX_TRACKED {
            known.clear();
        }
        known.entry(saga_id).or_default();
    }

    /// Counts a lock time-out of a saga and returns how many it had before.
    pub(super) fn count_lock_timeout(&self, saga_id: SagaId) -> u32 {
        self.insert(saga_id);
        let mut known = self.known();
        let count = known.entry(saga_id).or_default();
        *count += 1;
        *count - 1
    }

    pub(super) fn times(&self, saga_id: SagaId) -> u32 {
        self.known().get(&saga_id).copied().unwrap_or_default()
    }

    pub(super) fn forget(&self, saga_id: SagaId) {
        self.known().remove(&saga_id);
    }

    fn known(&self) -> MutexGuard<'_, HashMap<SagaId, u32>> {
        self.lock_timeouts.lock()
    }
}

/// Upper bound of remembered sagas; the map is cleared when it is reached.
const MAX_TRACKED: usize = 10_000;
