//! Group commit. Every definition has a lane; what arrives while the last batch is being committed is the next batch. No
//! timer, and no delay when idle.
//!
//! A lane commits one batch after the other, and a batch is tried in it once, for a bounded time: what is split, waits for
//! somebody's lock or takes long goes on [aside], so that nobody waits behind it.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::FutureExt;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::runtime::commit::attempt::{self, AttemptOptions};
use crate::runtime::commit::bisect::{IsolatedSagas, Part};
use crate::{
    engine::Core,
    runtime::{
        claim::feed::{abandoned, unbegun},
        commit::{
            advance::{BatchMember, BatchResult, Recovery},
            error::CommitError,
        },
        job::Committed,
    },
    store::claims::ReleaseRow,
};

/// The most transactions of one definition that are committed in isolation at once.
const MAX_ISOLATED: usize = 2;
/// After a batch times out on a lock, batches use [`SHORT_LOCK_TIMEOUT`] for this long.
const LOCK_CAUTION: Duration = Duration::from_secs(10);
const SHORT_LOCK_TIMEOUT: Duration = Duration::from_millis(200);

/// A saga to be committed, and where the result goes.
#[derive(Debug)]
pub(crate) struct CommitRequest {
    pub(crate) member: BatchMember,
    pub(crate) reply: oneshot::Sender<Committed>,
}

pub(crate) type Sender = mpsc::UnboundedSender<CommitRequest>;

/// Where a batch is committed, which decides how long one saga's step may take there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommitPath {
    /// In the lane: others wait behind it.
    Grouped,
    /// Beside the lane: a saga that is alone there has all the time that its step's policy gives it.
    Isolated,
}

/// The group commit of one definition.
pub(super) struct GroupCommitter {
    pub(super) core: Arc<Core>,
    pub(super) places: Semaphore,
    pub(super) isolated: IsolatedSagas,
}

/// Commits what arrives, until every sender is gone or the engine has stopped and nothing is left.
pub(crate) async fn run(core: Arc<Core>, mut arrivals: mpsc::UnboundedReceiver<CommitRequest>) {
    let lane = Arc::new(GroupCommitter {
        core,
        places: Semaphore::new(MAX_ISOLATED),
        isolated: IsolatedSagas::default(),
    });
    let core = &lane.core;
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
        drain_ready(&mut batch, &mut arrivals, core.settings.max_batch).await;
        let (alone, together): (Vec<_>, Vec<_>) = batch.drain(..).partition(|request| {
            request.member.job.isolated || lane.isolated.contains(request.member.job.saga_id)
        });
        for request in alone {
            lane.clone().commit_isolated(Part::whole(vec![request]), None);
        }
        if together.is_empty() {
            continue;
        }
        let is_cautious = cautious_until.is_some_and(|until| Instant::now() < until);
        let options = AttemptOptions {
            path: CommitPath::Grouped,
            lock_wait: is_cautious.then_some(SHORT_LOCK_TIMEOUT),
        };
        // User code is guarded one by one. Should the engine's own code panic, the lane goes on: the batch's claims
        // are lost here, and taken over when their leases end.
        match AssertUnwindSafe(commit(&lane, together, options)).catch_unwind().await {
            // Only a wait of full length shows that a lock is held for long.
            Ok(LockWait::TimedOut) if !is_cautious => cautious_until = Some(Instant::now() + LOCK_CAUTION),
            Ok(LockWait::TimedOut | LockWait::Fine) => {}
            Err(_) => {
                tracing::error!(
                    "committing a batch panicked; its sagas are taken over when their leases end"
                );
            }
        }
    }
}

/// Lets those join who are ready right now, as after a claim of many. It waits for nobody.
pub(crate) async fn drain_ready<T>(
    batch: &mut Vec<T>,
    arrivals: &mut mpsc::UnboundedReceiver<T>,
    max_batch: usize,
) {
    tokio::task::yield_now().await;
    while batch.len() < max_batch {
        match arrivals.try_recv() {
            Ok(one) => batch.push(one),
            Err(_) => return,
        }
    }
}

/// Whether a batch timed out on a lock.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LockWait {
    TimedOut,
    Fine,
}

/// Tries a batch in the lane.
async fn commit(lane: &Arc<GroupCommitter>, batch: Vec<CommitRequest>, options: AttemptOptions) -> LockWait {
    let (replies, members) = unzip(batch);
    match attempt::commit_with_retries(&lane.core, &members, &Recovery::None, options).await {
        Ok(result) => {
            settle(&lane.core, members, replies, result);
            LockWait::Fine
        }
        Err(CommitError::Transient(error)) => {
            release_transient(&lane.core, zip(members, replies), &error);
            LockWait::Fine
        }
        Err(trouble) => {
            let held = if matches!(trouble, CommitError::LockTimeout(_)) {
                LockWait::TimedOut
            } else {
                LockWait::Fine
            };
            lane.clone().commit_isolated(Part::whole(zip(members, replies)), Some(trouble));
            held
        }
    }
}

pub(super) fn zip(members: Vec<BatchMember>, replies: Vec<oneshot::Sender<Committed>>) -> Vec<CommitRequest> {
    members.into_iter().zip(replies).map(|(member, reply)| CommitRequest { member, reply }).collect()
}

pub(super) fn unzip(requests: Vec<CommitRequest>) -> (Vec<oneshot::Sender<Committed>>, Vec<BatchMember>) {
    requests.into_iter().map(|request| (request.reply, request.member)).unzip()
}

/// Passes on what a committed batch came to.
pub(super) fn settle(
    core: &Arc<Core>,
    members: Vec<BatchMember>,
    replies: Vec<oneshot::Sender<Committed>>,
    result: BatchResult,
) {
    if result.crash.is_some() {
        // As if the process had died: claims stay leased, and nobody here learns anything.
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
    core.publish_effects(result.after);
    drop(jobs);
    // First the next jobs, as `Engine::commit` promises to those told below.
    for job in continuations {
        core.feeds.dispatch(core, job);
    }
    for (index, reply) in replies.into_iter().enumerate() {
        let committed = if result.lost.contains(&index) { Committed::Lost } else { Committed::Moved };
        // A worker that was dropped does not need to know.
        let _ = reply.send(committed);
    }
}

/// Gives up what no trying again has helped.
pub(super) fn release_transient(core: &Arc<Core>, requests: Vec<CommitRequest>, error: &sqlx::Error) {
    tracing::warn!(sagas = requests.len(), error = %error, "gave up a batch: the database is away for too long");
    release_all(core, requests, Duration::ZERO, None);
}

/// Gives claims back without an outcome, to be due after `delay`; `error` tells what kept them.
pub(super) fn release_all(
    core: &Arc<Core>,
    requests: Vec<CommitRequest>,
    delay: Duration,
    error: Option<&str>,
) {
    let (replies, members) = unzip(requests);
    let delay_ms = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
    let rows = members.iter().map(|member| {
        // A call that was made stays an attempt, and in doubt; a batch left no trace.
        let row = if member.made_call() { abandoned(&member.job) } else { unbegun(&member.job) };
        ReleaseRow { delay_ms, error: error.map(|error| crate::model::nul::replace_nul(error.into())), ..row }
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
