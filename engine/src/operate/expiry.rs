//! Expires dead jobs: archives those whose time to live is over, gives their sagas up, and prunes the archive.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    engine::Engine,
    model::error_chain::ErrorChain,
    model::{
        dead_job::{ArchivedDeadJob, DeadJobFilter},
        error::StepError,
        ids::{DeadJobId, SagaId},
        page::{Page, PageOf},
    },
    operate::{
        deadlines,
        give_up::{self, Expired},
    },
    runtime::{
        core::Core,
        effects::{self, CommitEffects},
        quarantine::{FindingStatement, Work},
    },
    store::{self, archive::Prunable, rows::Rows},
    support::{
        bounded_list::ListError,
        connection::{Blame, blame, concerns_everybody},
        jitter::jittered,
        metrics::{ARCHIVED, PRUNED},
    },
};

/// How often a process that works on queues looks for expired dead jobs, with jitter.
const INTERVAL: Duration = Duration::from_secs(30);
/// How many dead jobs are archived in one round.
const BATCH_SIZE: u32 = 100;
/// How many archived dead jobs are deleted in one round.
const PRUNE_BATCH_SIZE: u32 = 1000;

impl Engine {
    /// Archives dead jobs whose time to live is over, at most `limit`, the longest overdue first; returns how many. If
    /// no operator has acted on one, its saga is given up, which its history records: it compensates if it still can;
    /// past its pivot it stays dead, and ends. Sagas that died in an undo never expire. Any number of processes may
    /// call this at once; a process that works on queues calls it by itself.
    ///
    /// # Errors
    /// When the database can't be reached; dead jobs archived before that stay archived.
    pub async fn expire_dead_jobs(&self, limit: u32) -> Result<u32, sqlx::Error> {
        expire(&self.core, limit).await
    }

    /// Deletes archived dead jobs whose retention is over, at most `limit`; returns how many.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn prune_dead_job_archive(&self, limit: u32) -> Result<u64, sqlx::Error> {
        prune(&self.core, limit).await
    }

    /// Lists archived dead jobs, the last that died first. With the filter's `with_resolved`, the list also has those
    /// on which an operator had acted.
    ///
    /// # Errors
    /// See [`ListError`].
    pub async fn archived_dead_jobs(
        &self,
        filter: &DeadJobFilter,
        page: Page,
    ) -> Result<PageOf<ArchivedDeadJob>, ListError> {
        store::archive::archived_dead_jobs(self.pool(), filter, page).await
    }

    /// Reads an archived dead job.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn archived_dead_job(&self, id: DeadJobId) -> Result<Option<ArchivedDeadJob>, sqlx::Error> {
        store::archive::archived_dead_job(self.pool(), id.0).await
    }

    /// Reads an archived dead job and the saga's input.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn archived_dead_job_with_payload(
        &self,
        id: DeadJobId,
    ) -> Result<Option<(ArchivedDeadJob, Value)>, sqlx::Error> {
        store::archive::archived_dead_job_with_payload(self.pool(), id.0).await
    }
}

/// Periodically expires dead jobs, enforces deadlines of dead sagas and prunes the archive, until the engine stops. It
/// runs only in processes that work on queues.
pub(crate) async fn run(core: Arc<Core>) {
    loop {
        tokio::select! {
            () = core.stop.cancelled() => return,
            () = tokio::time::sleep(jittered(INTERVAL)) => {}
        }
        if core.feeds.open_queues().is_empty() {
            continue;
        }
        if let Err(error) = expire_all(&core).await {
            tracing::warn!(error = %ErrorChain(&error), "can't expire dead jobs now; trying again later");
        }
    }
}

async fn expire_all(core: &Core) -> Result<(), sqlx::Error> {
    while deadlines::compensate(core, BATCH_SIZE).await? == BATCH_SIZE && !core.stop.is_cancelled() {}
    while expire(core, BATCH_SIZE).await? == BATCH_SIZE && !core.stop.is_cancelled() {}
    while prune(core, PRUNE_BATCH_SIZE).await? == u64::from(PRUNE_BATCH_SIZE) && !core.stop.is_cancelled() {}
    Ok(())
}

async fn expire(core: &Core, limit: u32) -> Result<u32, sqlx::Error> {
    let resting = core.quarantine.resting(Work::Expire);
    let expired = store::archive::expired(&core.pool, limit, Rows::all_but(&resting)).await?;
    let mut archived = 0;
    for (id, saga_id) in expired {
        match expire_one(core, id, saga_id).await {
            Ok(Expiry::Archived { why, after }) => {
                metrics::counter!(ARCHIVED, "why" => why).increment(1);
                core.quarantine.accept(Work::Expire, [saga_id]);
                effects::publish(core, after);
                archived += 1;
            }
            Ok(Expiry::Postponed | Expiry::Locked) => {}
            Err(StepError::Database(error)) if concerns_everybody(&error) => return Err(error),
            Err(StepError::Database(error)) if matches!(blame(&error), Blame::Lock | Blame::Unclear) => {
                core.quarantine.refuse(Work::Expire, saga_id, &error);
            }
            Err(error) => {
                tracing::error!(dead_job.id = %id, error = %ErrorChain(&error), "an expired dead job can't be archived; trying again in a day");
                let postponed = store::archive::postpone(&mut *core.pool.acquire().await?, id).await;
                if let Err(error) = postponed {
                    core.quarantine.refuse(Work::Expire, saga_id, &error);
                }
            }
        }
    }
    Ok(archived)
}

/// The result for one dead job whose time to live is over.
enum Expiry {
    Archived {
        why: &'static str,
        after: CommitEffects,
    },
    /// It was not archived and stays open.
    Postponed,
    /// Another transaction holds the lock, or has already archived it.
    Locked,
}

/// Archives one dead job in a transaction of its own.
async fn expire_one(core: &Core, id: Uuid, saga_id: Uuid) -> Result<Expiry, StepError> {
    let mut transaction = core.pool.begin().await?;
    let expiry = expire_in(core, &mut transaction, id, saga_id).await?;
    match expiry {
        Expiry::Archived { .. } | Expiry::Postponed => transaction.commit().await?,
        Expiry::Locked => transaction.rollback().await?,
    }
    Ok(expiry)
}

async fn expire_in(
    core: &Core,
    conn: &mut PgConnection,
    id: Uuid,
    saga_id: Uuid,
) -> Result<Expiry, StepError> {
    // The saga is locked first, in the same order as everywhere else.
    if !store::archive::lock_saga(conn, saga_id).await? {
        return Ok(Expiry::Locked);
    }
    let Some(job) = store::dead_jobs::lock(conn, id).await? else { return Ok(Expiry::Locked) };
    let (why, after) = match (job.resolution, job.request) {
        // An operator has acted on it: only the record is archived.
        (Some(_), _) => ("resolved", CommitEffects::default()),
        // Requested since the dead job was found.
        (None, Some(_)) => return Ok(Expiry::Postponed),
        (None, None) => match give_up::expire(core, conn, SagaId(saga_id)).await? {
            Expired::GivenUp(after) => ("expired", after),
            Expired::Waits => {
                store::archive::never_expire(conn, id).await?;
                return Ok(Expiry::Postponed);
            }
            Expired::Unknown | Expired::NotDead => {
                store::archive::postpone(conn, id).await?;
                return Ok(Expiry::Postponed);
            }
        },
    };
    store::archive::archive(conn, id, why).await?;
    Ok(Expiry::Archived { why, after })
}

async fn prune(core: &Core, limit: u32) -> Result<u64, sqlx::Error> {
    let Some(keep) = core.archive_retention else { return Ok(0) };
    let keep_ms = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
    let prunable = Prunable { keep_ms, limit };
    let (mut connection, mut pruned) = (core.pool.acquire().await?, 0);
    let statement = Prune { conn: &mut connection, prunable, pruned: &mut pruned };
    core.quarantine.change_found(Work::Prune, statement).await?;
    metrics::counter!(PRUNED).increment(pruned);
    Ok(pruned)
}

/// Deletes archived dead jobs whose retention is over, and counts them.
struct Prune<'a> {
    conn: &'a mut PgConnection,
    prunable: Prunable,
    pruned: &'a mut u64,
}

impl FindingStatement for Prune<'_> {
    async fn change(&mut self, rows: Rows<'_>) -> Result<Vec<Uuid>, sqlx::Error> {
        let ids = store::archive::prune(self.conn, self.prunable, rows).await?;
        *self.pruned += ids.len() as u64;
        Ok(ids)
    }

    async fn find(&mut self, rows: Rows<'_>) -> Result<Vec<Uuid>, sqlx::Error> {
        store::archive::prunable(self.conn, self.prunable, rows).await
    }
}
