//! Extends the leases of this process in the database, and releases its claims.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{
    model::ids::SagaId,
    runtime::{core::Core, job::Job},
    store::{
        self,
        claims::{ReleaseRow, ReleasedRow},
    },
    support::connection,
};

/// Extends the leases of these claims now.
pub(crate) async fn extend_leases(core: &Core, ids: &[uuid::Uuid]) -> Result<(), sqlx::Error> {
    let timeout = core.settings.db_timeout();
    let connection = connection::acquire(&core.pool, timeout).await?;
    let asked = Instant::now();
    let extended = connection::on_connection(connection, timeout, async |conn| {
        store::claims::extend(conn, ids, core.worker, core.lease_ms()).await
    })
    .await?;
    core.leases.extended(&extended, asked);
    Ok(())
}

/// Whether a call may begin under this claim. If the lease is known to have ended, it has to be extended first, and
/// that fails if another process has taken the saga over.
pub(crate) async fn may_call(core: &Core, job: &Job) -> bool {
    let has_lapsed = || core.leases.has_lapsed(job.saga_id, job.epoch, core.settings.lease);
    if !has_lapsed() {
        return true;
    }
    match extend_leases(core, &[job.saga_id.0]).await {
        Ok(()) => !has_lapsed(),
        Err(error) => {
            tracing::debug!(error = %error, "can't extend the lease of a call now");
            false
        }
    }
}

/// Releases claims that were not started.
pub(crate) fn release_unstarted(core: &Core, jobs: impl IntoIterator<Item = Job>) {
    release(core, jobs.into_iter().map(|job| job.unstarted_release()));
}

/// Releases a claim whose attempt was cut short: the attempt still counts, and a call is in doubt.
pub(crate) fn abandon(core: &Core, job: Job) {
    release(core, [if job.is_call() { job.release_after_call() } else { job.started_release() }]);
    drop(job);
}

/// Queues claims for release; the lease keeper writes them to the database soon.
pub(crate) fn release(core: &Core, rows: impl IntoIterator<Item = ReleaseRow>) {
    if core.faults.is_crashed() {
        return;
    }
    core.leases.queue_release(rows);
    core.lease_wakeup.notify_one();
}

/// How long to wait before the release of a locked saga is tried again.
pub(crate) const LOCKED_RETRY: Duration = Duration::from_millis(200);

/// Whether all sagas whose claims are to be released are free in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// They are, or the database did not answer and their claims end with their leases.
    All,
    /// Other transactions have locked some of them, which stay queued.
    ButLocked,
}

/// Writes the queued releases to the database; releases that can't be written now stay queued.
pub(crate) async fn flush_releases(core: &Core) -> Flushed {
    // Flushes are serialised, so a caller also waits for one in progress that holds its claims.
    let _one_at_a_time = core.leases.flushing.lock().await;
    if core.faults.is_crashed() {
        return Flushed::All;
    }
    let mut pending = core.leases.take_pending();
    if pending.rows.is_empty() {
        return Flushed::All;
    }
    let released = match write_releases(core, &pending.rows).await {
        Ok(released) => released,
        Err(error) => {
            tracing::debug!(error = %error, "can't release claims now; they end with their leases");
            return Flushed::All;
        }
    };
    let locked = released.iter().filter(|row| row.locked).map(|row| row.id).collect();
    pending.confirm_except(&locked);
    let mut by_queue = BTreeMap::<String, Vec<SagaId>>::new();
    for row in released.into_iter().filter(|row| !row.locked) {
        by_queue.entry(row.queue).or_default().push(SagaId(row.id));
    }
    for (queue, ids) in by_queue {
        core.hints.tell_due(&queue);
        core.feeds.notify_due(&queue, ids);
    }
    if locked.is_empty() { Flushed::All } else { Flushed::ButLocked }
}

/// As [`flush_releases`], at the end of a process; tries the releases of locked sagas again for at most `limit`. It also
/// sends the hints, because the task that sends them has ended by now.
pub(crate) async fn flush_last_releases(core: &Core, limit: Duration) {
    let began = Instant::now();
    while !core.faults.is_crashed() {
        let flushed = flush_releases(core).await;
        core.hints.flush(&core.pool, core.settings.db_timeout()).await;
        if flushed == Flushed::All {
            return;
        }
        if began.elapsed() >= limit {
            tracing::warn!("other transactions keep some sagas locked; their claims end with their leases");
            return;
        }
        tokio::time::sleep(LOCKED_RETRY).await;
    }
}

async fn write_releases(core: &Core, rows: &[ReleaseRow]) -> Result<Vec<ReleasedRow>, sqlx::Error> {
    connection::with_timeout(&core.pool, core.settings.db_timeout(), async |conn| {
        store::claims::release(conn, rows, core.worker).await
    })
    .await
}
