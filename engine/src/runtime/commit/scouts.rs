//! Tries sagas that are held up: one scout of each group, and once it gets through, the others in growing batches.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use sqlx::PgConnection;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::{
    definition::saga::Definition,
    model::{error_chain::ErrorChain, graph::Graph, ids::SagaId},
    runtime::{
        claim::claim_sagas::{Asked, claim},
        commit::{
            attempt::{AttemptOptions, commit_with_retries},
            bisect::{Part, commit_isolated, got_through},
            commit_path::CommitPath,
            error::CommitError,
            held_up::{Obstacle, Scouted},
            recovery::Recovery,
            settle::{GroupCommitter, give_back_held_up, settle, unzip, zip},
        },
        effects,
        job::{Job, Performed},
        lease_updates,
        messages::{BatchMember, CommitRequest},
    },
    store::{self, claims::ClaimScope},
    support::{
        connection,
        metrics::{HELD_UP, LOCK_BLOCKED},
        parts::{Parts, Statement},
    },
};

/// How long a scout waits for a lock.
const LOCK_WAIT: Duration = Duration::from_millis(100);
/// How often the groups are looked through while there are any.
const TICK: Duration = Duration::from_millis(50);
/// How many sagas one statement makes due at the end.
const WAKE_BATCH: usize = 1000;

/// Sends scouts until the engine stops; then makes the sagas that are held up due for other processes.
pub(super) async fn run(committer: Arc<GroupCommitter>, definition: Arc<Definition>) {
    let core = &committer.core;
    let Graph { name, hash, .. } = &definition.graph;
    while !core.stop.is_cancelled() {
        for (kind, count) in committer.held_up.counts() {
            let count = f64::from(u32::try_from(count).unwrap_or(u32::MAX));
            metrics::gauge!(HELD_UP, "definition" => name.clone(), "graph" => hash.clone(), "by" => kind)
                .set(count);
        }
        if committer.held_up.is_empty() {
            tokio::select! {
                () = core.stop.cancelled() => break,
                () = committer.held_up.added.notified() => {}
            }
        }
        for (obstacle, scouts) in committer.held_up.take_scouts(core.settings.max_batch) {
            send(&committer, obstacle, scouts);
        }
        tokio::select! {
            () = core.stop.cancelled() => break,
            () = tokio::time::sleep(TICK) => {}
        }
    }
    wake_all(&committer).await;
}

fn send(committer: &Arc<GroupCommitter>, obstacle: Obstacle, scouts: Vec<SagaId>) {
    let scouting = {
        let committer = committer.clone();
        async move {
            let tried = AssertUnwindSafe(try_scouts(&committer, obstacle, &scouts)).catch_unwind().await;
            let scouted = tried.unwrap_or_else(|_| {
                tracing::error!("trying sagas that are held up panicked; they come back by themselves");
                Scouted::HeldUp
            });
            committer.held_up.scouted(obstacle, scouted);
        }
    };
    committer.core.tasks.spawn(scouting);
}

async fn try_scouts(committer: &Arc<GroupCommitter>, obstacle: Obstacle, scouts: &[SagaId]) -> Scouted {
    let core = &committer.core;
    // They may just have been given back.
    lease_updates::flush_releases(core).await;
    let ids: Vec<_> = scouts.iter().map(|saga_id| saga_id.0).collect();
    let jobs = match claim(core, ClaimScope::HeldUp(&ids), ids.len()).await {
        Ok(claimed) if claimed.asked == Asked::No => return Scouted::HeldUp,
        Ok(claimed) => claimed.jobs,
        Err(error) => {
            tracing::debug!(error = %ErrorChain(&error), "can't claim sagas that are held up now");
            return Scouted::HeldUp;
        }
    };
    let missing: Vec<_> =
        scouts.iter().copied().filter(|saga_id| jobs.iter().all(|job| job.saga_id != *saga_id)).collect();
    if let Err(error) = forget_gone(committer, &missing).await {
        tracing::debug!(error = %ErrorChain(&error), "can't read which sagas are still held up now");
    }
    if jobs.is_empty() && !missing.is_empty() {
        return Scouted::HeldUp;
    }
    // What was moved to another graph meanwhile is for the group commit of that one.
    let is_elsewhere = |job: &Job| job.is_call() || job.graph().hash != committer.graph_hash;
    let (elsewhere, jobs): (Vec<_>, Vec<_>) = jobs.into_iter().partition(is_elsewhere);
    for job in elsewhere {
        committer.held_up.remove(job.saga_id);
        effects::dispatch(core, job);
    }
    if jobs.is_empty() {
        return Scouted::GotThrough;
    }
    commit(committer, obstacle, jobs).await
}

/// Forgets those of these sagas that have ended, that somebody decided about, or that another process has. The others
/// could not be claimed or given back yet, because their own row is locked.
async fn forget_gone(committer: &GroupCommitter, sagas: &[SagaId]) -> Result<(), sqlx::Error> {
    if sagas.is_empty() {
        return Ok(());
    }
    let core = &committer.core;
    let ids: Vec<_> = sagas.iter().map(|saga_id| saga_id.0).collect();
    let held_up = connection::with_timeout(&core.pool, core.settings.db_timeout(), async |conn| {
        store::claims::still_held_up(conn, &ids, core.worker).await
    })
    .await?;
    for saga_id in sagas.iter().filter(|saga_id| !held_up.contains(&saga_id.0)) {
        committer.held_up.remove(*saga_id);
    }
    Ok(())
}

async fn commit(committer: &Arc<GroupCommitter>, obstacle: Obstacle, jobs: Vec<Job>) -> Scouted {
    let requests = jobs.into_iter().map(|job| {
        // Nobody waits for the reply.
        let (reply, _) = oneshot::channel();
        CommitRequest { member: BatchMember { job, performed: Performed::in_batch() }, reply }
    });
    let (replies, members) = unzip(requests.collect());
    let options = AttemptOptions { path: CommitPath::Alone, lock_wait: Some(LOCK_WAIT) };
    match commit_with_retries(&committer.core, &members, &Recovery::None, options).await {
        Ok(result) => {
            committer.blocked_rows.forget(obstacle);
            for member in &members {
                committer.held_up.remove(member.job.saga_id);
                got_through(committer, &member.job);
            }
            settle(&committer.core, members, replies, result);
            Scouted::GotThrough
        }
        Err(CommitError::LockTimeout { side, error, holder }) => {
            let requests = zip(members, replies);
            for request in &requests {
                let job = &request.member.job;
                metrics::counter!(LOCK_BLOCKED, "definition" => job.definition_name.to_string()).increment(1);
                let held_by = match (obstacle, &holder) {
                    (Obstacle::Lock { .. }, None) => obstacle,
                    (Obstacle::Lock { .. } | Obstacle::Slow { .. }, holder) => Obstacle::Lock {
                        side: side.unwrap_or_else(|| job.state.side()),
                        holder: holder.as_ref().map(|holder| holder.pid),
                    },
                };
                if held_by != obstacle {
                    committer.held_up.insert(job.saga_id, job.state.side(), held_by);
                    if requests.len() == 1 && side.is_none_or(|side| side == job.state.side()) {
                        committer.blocked_rows.held_up(job.state.step_index, &job.locks(), held_by);
                    }
                }
            }
            give_back_held_up(&committer.core, requests, Some((&error, holder.as_ref())));
            Scouted::HeldUp
        }
        Err(error) => {
            for member in &members {
                committer.held_up.remove(member.job.saga_id);
            }
            commit_isolated(committer, Part::whole(zip(members, replies)), Some((error, options.path)));
            Scouted::GotThrough
        }
    }
}

/// Makes sagas due that are held up, on a connection.
struct WakeHeldUp<'a> {
    conn: &'a mut PgConnection,
}

impl Statement<Uuid> for WakeHeldUp<'_> {
    type Row = Uuid;

    async fn run(&mut self, ids: &[Uuid]) -> Result<Vec<Uuid>, sqlx::Error> {
        store::claims::wake_held_up(self.conn, ids).await
    }
}

/// Makes all sagas due that are held up here, so that the next process finds them at once.
async fn wake_all(committer: &GroupCommitter) {
    let core = &committer.core;
    if core.faults.is_crashed() {
        return;
    }
    lease_updates::flush_releases(core).await;
    for ids in committer.held_up.all().chunks(WAKE_BATCH) {
        let ids: Vec<_> = ids.iter().map(|saga_id| saga_id.0).collect();
        let mut parts = Parts::of(&ids);
        let woken = connection::with_timeout(&core.pool, core.settings.db_timeout(), async |conn| {
            parts.run(WakeHeldUp { conn }).await
        });
        if let Err(error) = woken.await {
            tracing::debug!(error = %ErrorChain(&error), "can't make the sagas due that are held up; they come back by themselves");
            return;
        }
    }
}
