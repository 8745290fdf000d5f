//! One batch in one transaction, tried again while its trouble is transient.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{Acquire, Postgres, pool::PoolConnection};

use crate::{
    runtime::{
        commit::{
            advance::{BatchResult, CommitPath, advance},
            error::CommitError,
            recovery::Recovery,
        },
        core::Core,
        lease_updates,
        messages::BatchMember,
    },
    store,
    support::{connection::timed_out, faults::CrashPoint, jitter::jittered},
};

/// A batch that was dropped by everybody's fault but its own is not tried for ever: past the lease the claims are lost.
const RETRY_BUDGET: f64 = 0.8;
/// No transaction of ours takes longer; a connection that died silently is given up then.
const TRANSACTION_LIMIT: Duration = Duration::from_mins(1);

/// How a batch is tried.
#[derive(Clone, Copy, Debug)]
pub(super) struct AttemptOptions {
    pub(super) path: CommitPath,
    /// How long a statement waits for a lock; `None` leaves it to the connection's own limit.
    pub(super) lock_wait: Option<Duration>,
}

/// Tries a batch again while its trouble is transient and its leases can still be ours. Trying again is safe: if the
/// commit whose answer was lost did happen, the fence finds other sequence numbers and drops the batch.
///
/// A lock that somebody else holds ends it at once: it may be held for long, and only by those who need it must it be
/// waited for. But an answer of the outside world is not given up for it as long as there is time.
pub(super) async fn commit_with_retries(
    core: &Arc<Core>,
    members: &[BatchMember],
    recovery: &Recovery,
    options: AttemptOptions,
) -> Result<BatchResult, CommitError> {
    let began = Instant::now();
    let budget = core.settings.lease.mul_f64(RETRY_BUDGET);
    let must_commit = options.path == CommitPath::Isolated && members.len() == 1 && members[0].made_call();
    let mut pause = Duration::from_millis(5);
    loop {
        extend_leases(core, members).await;
        let error = match commit_once(core, members, recovery, options).await {
            Err(CommitError::Transient(error)) => error,
            Err(CommitError::LockTimeout(error)) if must_commit => error,
            other => return other,
        };
        if began.elapsed() + pause >= budget {
            return Err(CommitError::Transient(error));
        }
        tracing::debug!(error = %error, "a batch met trouble that will pass; trying again");
        metrics::counter!("sagaline_batch_retries_total").increment(1);
        tokio::time::sleep(jittered(pause)).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

/// Extends leases of which an earlier part, or an earlier try, has used up some.
async fn extend_leases(core: &Arc<Core>, members: &[BatchMember]) {
    let saga_ids = members.iter().map(|member| member.job.saga_id);
    let aged = core.leases.older_than_among(saga_ids, core.settings.lease / 6);
    if !aged.is_empty()
        && let Err(error) = lease_updates::extend_leases(core, &aged).await
    {
        tracing::debug!(error = %error, "can't extend the leases of a batch; it goes on with what is left of them");
    }
}

/// Runs a batch in one transaction.
async fn commit_once(
    core: &Arc<Core>,
    members: &[BatchMember],
    recovery: &Recovery,
    options: AttemptOptions,
) -> Result<BatchResult, CommitError> {
    let mut connection = core.pool.acquire().await.map_err(CommitError::Transient)?;
    let mut backend_pid = None;
    let work = in_transaction(core, &mut connection, members, recovery, options, &mut backend_pid);
    let (result, cancelled_mid_statement) = match tokio::time::timeout(TRANSACTION_LIMIT, work).await {
        Err(_) => (Err(CommitError::Transient(timed_out("the transaction took too long"))), true),
        Ok(result) => {
            let cancelled_mid_statement =
                matches!(result, Err(CommitError::Step { cancelled_mid_statement: true, .. }));
            (result, cancelled_mid_statement)
        }
    };
    let usable = match &result {
        Ok(_)
        | Err(CommitError::LockTimeout(_) | CommitError::Step { cancelled_mid_statement: false, .. }) => true,
        Err(CommitError::Step { cancelled_mid_statement: true, .. }) => false,
        Err(CommitError::Transient(error)) => matches!(error, sqlx::Error::Database(_)),
    };
    if !usable {
        // Handing it back could wait on a dead socket for ever and keep its place in the pool.
        drop(connection.detach());
    }
    if cancelled_mid_statement && let Some(pid) = backend_pid {
        core.terminate_backend(pid).await.map_err(CommitError::Transient)?;
    }
    result
}

async fn in_transaction(
    core: &Arc<Core>,
    connection: &mut PoolConnection<Postgres>,
    members: &[BatchMember],
    recovery: &Recovery,
    options: AttemptOptions,
    backend_pid: &mut Option<i32>,
) -> Result<BatchResult, CommitError> {
    let mut transaction = connection.begin().await.map_err(CommitError::Transient)?;
    if let Some(lock_wait) = options.lock_wait {
        store::commits::bound_lock_waits(&mut transaction, lock_wait)
            .await
            .map_err(CommitError::Transient)?;
    }
    let mut result = advance(core, &mut transaction, members, recovery, options.path, backend_pid).await?;
    if core.faults.is_crashed() || result.crash.is_before_commit() {
        simulate_crash(core);
        return Ok(BatchResult { crash: CrashPoint::BEFORE_COMMIT, ..BatchResult::default() });
    }
    transaction.commit().await.map_err(CommitError::Transient)?;
    metrics::counter!("sagaline_commits_total", "kind" => "batch").increment(1);
    std::mem::take(&mut result.metrics).record();
    if result.crash.is_set() {
        simulate_crash(core);
    }
    Ok(result)
}

/// A test made this engine crash: it stops, and leaves no trace from now on.
fn simulate_crash(core: &Core) {
    core.faults.crash();
    core.stop.cancel();
}
