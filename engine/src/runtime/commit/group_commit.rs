//! The group commit of a graph: jobs that arrive while a batch is being committed form the next batch. There is no
//! timer, and no delay when idle.
//!
//! Batches are committed one after the other. Each is tried once here, for a bounded time. A batch that has to be
//! split, waits for a lock or takes long continues in isolation (see [`bisect`](crate::runtime::commit::bisect)), so
//! that no other batch waits for it.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::FutureExt;
use tokio::sync::{Semaphore, mpsc};

use crate::{
    definition::saga::Definition,
    runtime::{
        commit::{
            attempt::{AttemptOptions, commit_with_retries},
            bisect::{Part, commit_isolated, hold_up_if_blocked},
            blocked_rows::BlockedRows,
            commit_path::CommitPath,
            error::CommitError,
            held_up::HeldUp,
            recovery::Recovery,
            scouts,
            settle::{
                GroupCommitter, IsolatedSagas, give_back_held_up, release_transient, settle, unzip, zip,
            },
            suspects::Suspects,
        },
        core::Core,
        messages::{CommitRequest, drain_ready},
    },
};

/// The most transactions of one graph that run in isolation at once.
const MAX_ISOLATED: usize = 2;
/// How many full batches have room beside the group commit.
const BATCHES_ASIDE: usize = 4;
/// After a batch times out on a lock, and while sagas are held up, batches use [`SHORT_LOCK_TIMEOUT`].
const LOCK_CAUTION: Duration = Duration::from_secs(10);
const SHORT_LOCK_TIMEOUT: Duration = Duration::from_millis(50);

/// Commits the jobs that arrive, until every sender is gone or the engine has stopped and nothing is left.
pub(crate) async fn run(
    core: Arc<Core>,
    definition: Arc<Definition>,
    mut arrivals: mpsc::UnboundedReceiver<CommitRequest>,
) {
    let room = Arc::new(Semaphore::new(core.settings.max_batch * BATCHES_ASIDE));
    let committer = Arc::new(GroupCommitter {
        core,
        graph_hash: definition.graph.hash.clone(),
        permits: Semaphore::new(MAX_ISOLATED),
        isolated: IsolatedSagas::default(),
        suspects: Suspects::default(),
        held_up: HeldUp::default(),
        blocked_rows: BlockedRows::default(),
        room,
    });
    committer.core.tasks.spawn(scouts::run(committer.clone(), definition));
    let core = &committer.core;
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
        let (held_up, free): (Vec<_>, Vec<_>) =
            batch.drain(..).partition(|request| is_held_up(&committer, request));
        if !held_up.is_empty() {
            give_back_held_up(core, held_up, None);
        }
        let (alone, together): (Vec<_>, Vec<_>) = free.into_iter().partition(|request| {
            request.member.job.isolated || committer.isolated.contains(request.member.job.saga_id)
        });
        for request in alone {
            commit_isolated(&committer, Part::whole(vec![request]), None);
        }
        let (together, suspected) = hold_up_if_blocked(&committer, together);
        for requests in suspected {
            commit_isolated(&committer, Part::whole(requests), None);
        }
        if together.is_empty() {
            continue;
        }
        let is_cautious =
            !committer.held_up.is_empty() || cautious_until.is_some_and(|until| Instant::now() < until);
        let options = AttemptOptions {
            path: CommitPath::Grouped,
            lock_wait: is_cautious.then_some(SHORT_LOCK_TIMEOUT),
        };
        // User code is guarded separately. If the engine's own code panics, the group commit goes on: the claims of the
        // batch are lost here, and are taken over when their leases end.
        match AssertUnwindSafe(commit(&committer, together, options)).catch_unwind().await {
            // Only a time-out of the full length shows that the lock is held for long.
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

/// Whether a saga came back while it is held up, only because its time had come. A cancel or a passed deadline does not
/// wait.
fn is_held_up(committer: &GroupCommitter, request: &CommitRequest) -> bool {
    let (job, made_call) = (&request.member.job, request.member.made_call());
    !made_call && !job.interrupted && committer.held_up.holds(job.saga_id, job.state.side())
}

/// Whether a batch timed out on a lock.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LockWait {
    TimedOut,
    Fine,
}

/// Tries a batch once, for a bounded time; a batch that fails continues in isolation.
async fn commit(
    committer: &Arc<GroupCommitter>,
    batch: Vec<CommitRequest>,
    options: AttemptOptions,
) -> LockWait {
    let (replies, members) = unzip(batch);
    match commit_with_retries(&committer.core, &members, &Recovery::None, options).await {
        Ok(result) => {
            settle(&committer.core, members, replies, result);
            LockWait::Fine
        }
        Err(CommitError::Unreachable(error)) => {
            release_transient(&committer.core, zip(members, replies), &error);
            LockWait::Fine
        }
        Err(error) => {
            let wait = if matches!(error, CommitError::LockTimeout { .. }) {
                LockWait::TimedOut
            } else {
                LockWait::Fine
            };
            commit_isolated(committer, Part::whole(zip(members, replies)), Some((error, options.path)));
            wait
        }
    }
}
