//! Extends the leases of this process in the database, and releases its claims.

use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, Instant},
};

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    model::error_chain::ErrorChain,
    model::ids::SagaId,
    runtime::{core::Core, job::Job, quarantine::Work},
    store::{
        self,
        claims::{ExtendedRow, ReleaseRow, ReleasedRow},
    },
    support::{
        connection,
        parts::{Parts, Statement},
    },
};

/// Extends the leases of these claims now, on a connection of the pool. A saga whose lease can't be extended stops no
/// other; its lease runs out.
pub(crate) async fn extend_leases(core: &Core, ids: &[Uuid]) -> Result<(), sqlx::Error> {
    let ids = extendable(core, ids);
    if ids.is_empty() {
        return Ok(());
    }
    let timeout = core.settings.db_timeout();
    let connection = connection::acquire(&core.pool, timeout).await?;
    let (asked, mut parts) = (Instant::now(), Parts::of(&ids));
    let result = connection::on_connection(connection, timeout, async |conn| {
        parts.run(ExtendLeases { core, conn }).await
    })
    .await;
    record_extended(core, &parts, asked);
    result
}

/// Of these claims, those whose lease can be extended as far as is known.
pub(crate) fn extendable(core: &Core, ids: &[Uuid]) -> Vec<Uuid> {
    let resting = core.quarantine.resting(Work::Extend);
    ids.iter().copied().filter(|id| !resting.contains(id)).collect()
}

/// Extends leases on a connection.
pub(crate) struct ExtendLeases<'a> {
    pub(crate) core: &'a Core,
    pub(crate) conn: &'a mut PgConnection,
}

impl Statement<Uuid> for ExtendLeases<'_> {
    type Row = ExtendedRow;

    async fn run(&mut self, ids: &[Uuid]) -> Result<Vec<ExtendedRow>, sqlx::Error> {
        store::claims::extend(self.conn, ids, self.core.worker, self.core.lease_ms()).await
    }
}

/// Records which leases were extended, and which can't be. Locked or lost sagas are neither; the next round or the fence
/// handles them. It tells calls of a cancel that the extension has seen, or of a deadline.
pub(crate) fn record_extended(core: &Core, parts: &Parts<'_, Uuid, ExtendedRow>, asked: Instant) {
    let extended: Vec<Uuid> = parts.done.iter().map(|row| row.id).collect();
    core.leases.extended(&extended, asked);
    core.quarantine.judge(Work::Extend, parts, |id| *id, extended);
    core.calls.cancel(parts.done.iter().filter(|row| row.interrupted).map(|row| row.id));
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
            tracing::debug!(error = %ErrorChain(&error), "can't extend the lease of a call now");
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
    /// They are, or their claims end with their leases, because the database did not answer or refuses the change.
    All,
    /// Some stay queued that may be free soon: other transactions have locked them, or there was no time to try them.
    Partly,
}

/// Writes the queued releases to the database; releases that can't be written now stay queued.
pub(crate) async fn flush_releases(core: &Core) -> Flushed {
    // Flushes are serialised, so a caller also waits for one in progress that holds its claims.
    let _one_at_a_time = core.leases.flushing.lock().await;
    if core.faults.is_crashed() {
        return Flushed::All;
    }
    let mut pending = core.leases.take_pending();
    let resting: HashSet<_> = core.quarantine.resting(Work::Release).into_iter().collect();
    let released = write_releases(core, pending.without(&resting)).await;
    pending.confirm_except(&released.kept);
    let mut by_queue = BTreeMap::<String, Vec<SagaId>>::new();
    for row in released.free {
        by_queue.entry(row.queue).or_default().push(SagaId(row.id));
    }
    for (queue, ids) in by_queue {
        core.hints.tell_due(&queue);
        core.feeds.notify_due(&queue, ids);
    }
    released.flushed
}

/// As [`flush_releases`], at the end of a process; tries the releases of locked sagas again for at most `limit`. It also
/// sends the hints, because the task that sends them has ended by now.
pub(crate) async fn flush_last_releases(core: &Core, limit: Duration) {
    let began = Instant::now();
    core.quarantine.end_pauses(Work::Release);
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

/// Releases claims on a connection.
struct ReleaseClaims<'a> {
    core: &'a Core,
    conn: &'a mut PgConnection,
}

impl Statement<ReleaseRow> for ReleaseClaims<'_> {
    type Row = ReleasedRow;

    async fn run(&mut self, rows: &[ReleaseRow]) -> Result<Vec<ReleasedRow>, sqlx::Error> {
        store::claims::release(self.conn, rows, self.core.worker).await
    }
}

/// What became of releases.
struct Released {
    /// The sagas that are free now.
    free: Vec<ReleasedRow>,
    /// Those whose release stays queued, among others that were not asked for.
    kept: HashSet<Uuid>,
    flushed: Flushed,
}

/// Writes releases. A saga that can't be released stops no other.
async fn write_releases(core: &Core, (asked, resting): (&[ReleaseRow], &[ReleaseRow])) -> Released {
    let mut parts = Parts::of(asked);
    let result = if asked.is_empty() {
        Ok(())
    } else {
        connection::with_timeout(&core.pool, core.settings.db_timeout(), async |conn| {
            parts.run(ReleaseClaims { core, conn }).await
        })
        .await
    };
    let done = parts.done.iter().filter(|row| !row.locked).map(|row| row.id);
    core.quarantine.judge(Work::Release, &parts, |row| row.id, done);
    let untried: HashSet<_> = parts.untried().map(|row| row.id).collect();
    let refused: Vec<_> = parts.refused.iter().map(|(row, _)| row.id).collect();
    let (locked, free): (Vec<_>, Vec<_>) = parts.done.into_iter().partition(|row| row.locked);
    let flushed = match result {
        Ok(()) if locked.is_empty() && untried.is_empty() => Flushed::All,
        Ok(()) => Flushed::Partly,
        Err(error) => {
            tracing::debug!(error = %ErrorChain(&error), "can't release claims now; they end with their leases");
            Flushed::All
        }
    };
    let mut kept = untried;
    kept.extend(refused);
    kept.extend(locked.iter().map(|row| row.id));
    kept.extend(resting.iter().map(|row| row.id));
    Released { free, kept, flushed }
}
