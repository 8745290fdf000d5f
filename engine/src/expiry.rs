//! The end of dead jobs that nobody acts on: they are archived, and their sagas end as they are.

use std::{sync::Arc, time::Duration};

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    engine::{Engine, Inner},
    ids::{DeadJobId, SagaId},
    meters::ARCHIVED,
    operate, store,
    trouble::is_transient,
    tx::AfterCommit,
    view::{ArchivedDeadJob, DeadJobFilter, Page},
};

/// About how often a process that works on queues looks for expired dead jobs.
const PERIOD: Duration = Duration::from_secs(30);
/// How many are looked at in one go.
const BATCH: u32 = 100;
/// What the saga's history says.
const REASON: &str = "expired: nobody acted on its dead job before the time to live was over";

impl Engine {
    /// Archives dead jobs whose time to live is over, at most `limit`, the longest overdue first; gives how many. Where
    /// nobody had acted, the saga stays dead, with an end and a history entry that says so. Any number of processes may
    /// do so at once; a process that works on queues does it by itself.
    ///
    /// # Errors
    /// When the database is away; those archived until then stay so.
    pub async fn expire_dead_jobs(&self, limit: u32) -> Result<u32, sqlx::Error> {
        expire(&self.inner, limit).await
    }

    /// Lists archived dead jobs, the last parked first. `with_resolved` of the filter brings those, too, that somebody
    /// had acted on.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn archived_dead_jobs(
        &self,
        filter: &DeadJobFilter,
        page: Page,
    ) -> Result<Vec<ArchivedDeadJob>, sqlx::Error> {
        store::archive::archived_dead_jobs(self.pool(), filter, page).await
    }

    /// Reads an archived dead job.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn archived_dead_job(&self, id: DeadJobId) -> Result<Option<ArchivedDeadJob>, sqlx::Error> {
        store::archive::archived_dead_job(self.pool(), id.0).await
    }
}

/// Archives what has expired, now and then until the engine stops; only in processes that work on queues.
pub(crate) async fn watch(engine: Arc<Inner>) {
    loop {
        tokio::select! {
            () = engine.stop.cancelled() => return,
            () = tokio::time::sleep(crate::clock::jittered(PERIOD)) => {}
        }
        if engine.feeds.open_queues().is_empty() {
            continue;
        }
        loop {
            match expire(&engine, BATCH).await {
                Ok(archived) if archived == BATCH && !engine.stop.is_cancelled() => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(error = %error, "expired dead jobs can't be archived now; trying again later");
                    break;
                }
            }
        }
    }
}

async fn expire(engine: &Inner, limit: u32) -> Result<u32, sqlx::Error> {
    let expired = store::archive::expired(&engine.pool, limit).await?;
    let mut archived = 0;
    for (id, saga_id) in expired {
        let mut transaction = engine.pool.begin().await?;
        let ended = match end(engine, &mut transaction, id, saga_id).await {
            Ok(Some(ended)) => ended,
            Ok(None) => continue,
            Err(error) if is_transient(&error) => return Err(error),
            Err(error) => {
                tracing::error!(dead_job.id = %id, error = %error, "an expired dead job can't be archived; it is passed over");
                continue;
            }
        };
        transaction.commit().await?;
        metrics::counter!(ARCHIVED, "why" => ended.why).increment(1);
        engine.committed(ended.after);
        archived += 1;
    }
    Ok(archived)
}

/// One that was archived.
struct Ended {
    why: &'static str,
    after: AfterCommit,
}

/// Ends one; `None` when somebody else is at it, or was.
async fn end(
    engine: &Inner,
    conn: &mut PgConnection,
    id: Uuid,
    saga_id: Uuid,
) -> Result<Option<Ended>, sqlx::Error> {
    // The saga first, as whoever else acts on it.
    if !store::archive::lock_saga(conn, saga_id).await? {
        return Ok(None);
    }
    let after = match store::dead_jobs::lock(conn, id).await? {
        None => return Ok(None),
        // Somebody had acted: what expires is the record of it.
        Some((_, Some(_))) => None,
        Some((_, None)) => {
            let ended = operate::end_dead(engine, conn, SagaId(saga_id), REASON).await?;
            // A saga that is not dead, whatever its dead job says, is for the invariants to find.
            let Some(after) = ended else { return Ok(None) };
            Some(after)
        }
    };
    let why = if after.is_some() { "expired" } else { "resolved" };
    store::archive::archive(conn, id, why).await?;
    Ok(Some(Ended { why, after: after.unwrap_or_default() }))
}
