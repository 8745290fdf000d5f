//! Commits one batch in one transaction, and retries it after transient errors.

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

/// The share of the lease during which a batch is retried after transient errors. Later the claims could be lost.
const RETRY_BUDGET: f64 = 0.8;
/// The upper bound of a transaction's duration; after it the connection is taken for dead.
const TRANSACTION_LIMIT: Duration = Duration::from_mins(1);

/// Options of one attempt to commit a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct AttemptOptions {
    pub(super) path: CommitPath,
    /// How long a statement waits for a lock; `None` for the connection's default.
    pub(super) lock_wait: Option<Duration>,
}

/// Retries a batch after transient errors as long as its leases can still be valid. A retry is safe: if the commit
/// whose answer was lost did happen, the fence finds other sequence numbers and drops the batch.
///
/// A lock time-out ends the retries: the lock may be held for long, and only the sagas that need it should wait for it.
/// The answer of a call, however, is retried while there is time, because the call can't be taken back.
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
        tracing::debug!(error = %error, "a batch failed with a transient error; retrying");
        metrics::counter!("sagaline_batch_retries_total").increment(1);
        tokio::time::sleep(jittered(pause)).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

/// Extends leases that earlier attempts or earlier parts of the batch have partly used up.
async fn extend_leases(core: &Arc<Core>, members: &[BatchMember]) {
    let saga_ids = members.iter().map(|member| member.job.saga_id);
    let aged = core.leases.older_than_among(saga_ids, core.settings.lease / 6);
    if !aged.is_empty()
        && let Err(error) = lease_updates::extend_leases(core, &aged).await
    {
        tracing::debug!(error = %error, "can't extend the leases of a batch; continuing with the time that is left");
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
        // Returning the connection to the pool could wait on a dead socket forever and keep its slot.
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

/// Simulates a crash that a test asked for: the engine stops and writes nothing from now on.
fn simulate_crash(core: &Core) {
    core.faults.crash();
    core.stop.cancel();
}
