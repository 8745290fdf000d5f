//! Settles a batch after its transaction: replies to workers, dispatches the next jobs, or releases the claims.

use std::{collections::HashSet, sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Semaphore, oneshot};

use crate::{
    model::error_chain::ErrorChain,
    model::{ids::SagaId, storable::storable_text},
    runtime::{
        commit::{
            advance::BatchResult,
            blocked_rows::BlockedRows,
            held_up::{COMES_BACK, HeldUp},
            suspects::Suspects,
        },
        core::Core,
        effects,
        job::Committed,
        messages::{BatchMember, CommitRequest},
    },
    store::{claims::ReleaseRow, locks::LockHolder},
    support::jitter::jittered,
};

/// The group commit of one definition.
pub(super) struct GroupCommitter {
    pub(super) core: Arc<Core>,
    /// The hash of the graph whose sagas it commits.
    pub(super) graph_hash: String,
    /// Limits the transactions that run in isolation.
    pub(super) permits: Semaphore,
    pub(super) isolated: IsolatedSagas,
    pub(super) suspects: Suspects,
    pub(super) held_up: HeldUp,
    pub(super) blocked_rows: BlockedRows,
    /// One permit for each saga that may be beside the group commit at once.
    pub(super) room: Arc<Semaphore>,
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

/// Gives back sagas that are held up. They come back by themselves after a while; scouts come sooner. `why` is stored
/// with them; `None` keeps what is stored.
pub(super) fn give_back_held_up(
    core: &Arc<Core>,
    requests: Vec<CommitRequest>,
    why: Option<(&sqlx::Error, Option<&LockHolder>)>,
) {
    let error = why.map(|(error, holder)| {
        let holder = holder.map_or_else(String::new, |holder| format!(" ({holder})"));
        format!("waits for a lock that another transaction holds{holder}: {error}")
    });
    give_back(core, requests, error.as_deref());
}

/// As [`give_back_held_up`], with a sentence.
pub(super) fn give_back(core: &Arc<Core>, requests: Vec<CommitRequest>, error: Option<&str>) {
    let (replies, members) = unzip(requests);
    // When this process stops, another one finds them at once.
    let held_up = !core.stop.is_cancelled();
    let rows = members.iter().map(|member| {
        let delay = if held_up { jittered(COMES_BACK) } else { Duration::ZERO };
        let delay_ms = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
        let error = error.map(|error| storable_text(error.into()));
        ReleaseRow { delay_ms, error, held_up, ..member.job.unstarted_release() }
    });
    core.leases.queue_release(rows);
    core.lease_wakeup.notify_one();
    drop(members);
    for reply in replies {
        let _ = reply.send(Committed::Lost);
    }
}

/// Releases a batch that failed after all retries.
pub(super) fn release_transient(core: &Arc<Core>, requests: Vec<CommitRequest>, error: &sqlx::Error) {
    tracing::warn!(sagas = requests.len(), error = %ErrorChain(&error), "gave up a batch: the database can't be reached");
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
        ReleaseRow { delay_ms, error: error.map(|error| storable_text(error.into())), ..row }
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
    known: Mutex<HashSet<SagaId>>,
}

impl IsolatedSagas {
    pub(super) fn contains(&self, saga_id: SagaId) -> bool {
        let known = self.known();
        known.contains(&saga_id)
    }

    pub(super) fn insert(&self, saga_id: SagaId) {
        let mut known = self.known();
        if known.len() >= MAX_TRACKED {
            known.clear();
        }
        known.insert(saga_id);
    }

    pub(super) fn forget(&self, saga_id: SagaId) {
        self.known().remove(&saga_id);
    }

    fn known(&self) -> MutexGuard<'_, HashSet<SagaId>> {
        self.known.lock()
    }
}

/// Upper bound of remembered sagas; the map is cleared when it is reached.
const MAX_TRACKED: usize = 10_000;
