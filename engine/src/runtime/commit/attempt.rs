//! Commits one batch in one transaction, and retries it after transient errors.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{Acquire, Postgres, pool::PoolConnection};

use crate::{
    model::error_chain::ErrorChain,
    runtime::{
        commit::{
            advance::{BatchResult, advance},
            commit_path::CommitPath,
            error::{CommitError, classify},
            recovery::Recovery,
        },
        core::Core,
        lease_updates,
        messages::BatchMember,
    },
    store,
    support::{
        connection::{Blame, is_usable_after, timed_out},
        faults::CrashPoint,
        jitter::jittered,
    },
};

/// The share of the lease during which a batch is retried after transient errors. Later the claims could be lost.
const RETRY_BUDGET: f64 = 0.8;
/// How often a batch is tried while one of its sagas may be at fault.
const MAX_TRIES: u32 = 4;
/// The same for a saga alone with the answer of a call.
const MAX_TRIES_WITH_ANSWER: u32 = 8;
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
/// An error for which one saga of the batch may be at fault ends the retries after a few tries, so that the batch is
/// split. A lock time-out ends them at once: the lock may be held for long, and only the sagas that need it should wait
/// for it. The answer of a call, however, is retried while there is time, because the call can't be taken back.
pub(super) async fn commit_with_retries(
    core: &Arc<Core>,
    members: &[BatchMember],
    recovery: &Recovery,
    options: AttemptOptions,
) -> Result<BatchResult, CommitError> {
    let (began, commits) = (Instant::now(), core.commits());
    let budget = core.settings.lease.mul_f64(RETRY_BUDGET);
    let must_commit = options.path != CommitPath::Grouped && members.len() == 1 && members[0].made_call();
    let max_tries = if must_commit { MAX_TRIES_WITH_ANSWER } else { MAX_TRIES };
    let (mut tries, mut pause) = (0, Duration::from_millis(5));
    loop {
        extend_leases(core, members).await;
        let error = match commit_once(core, members, recovery, options).await {
            Err(error @ (CommitError::Unreachable(_) | CommitError::Transient { .. })) => error,
            Err(error @ CommitError::LockTimeout { .. }) if must_commit => error,
            other => return other,
        };
        tries += 1;
        let tried_enough = tries >= max_tries || began.elapsed() >= core.settings.batch_time_limit();
        if tried_enough && error.is_suspicious(core.commits() != commits, members.len() == 1) {
            return Err(error);
        }
        if began.elapsed() + pause >= budget {
            return Err(error.after_retries());
        }
        tracing::debug!(error = ?error, "a batch failed with a transient error; retrying");
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
        tracing::debug!(error = %ErrorChain(&error), "can't extend the leases of a batch; continuing with the time that is left");
    }
}

/// Runs a batch in one transaction.
async fn commit_once(
    core: &Arc<Core>,
    members: &[BatchMember],
    recovery: &Recovery,
    options: AttemptOptions,
) -> Result<BatchResult, CommitError> {
    let mut connection = core.pool.acquire().await.map_err(CommitError::Unreachable)?;
    let backend_pid = AtomicI32::new(0);
    let work = in_transaction(core, &mut connection, members, recovery, options, &backend_pid);
    let work = with_lock_holder(core, options.lock_wait, &backend_pid, work);
    let (result, cancelled_mid_statement) = match tokio::time::timeout(TRANSACTION_LIMIT, work).await {
        Err(_) => {
            let error = timed_out("the transaction took too long");
            (Err(CommitError::Transient { blame: Blame::Server, side: None, error }), true)
        }
        Ok(result) => {
            let cancelled_mid_statement =
                matches!(result, Err(CommitError::Step { cancelled_mid_statement: true, .. }));
            (result, cancelled_mid_statement)
        }
    };
    let usable = match &result {
        Ok(_)
        | Err(
            CommitError::LockTimeout { .. }
            | CommitError::OutputTooLarge { .. }
            | CommitError::PutOff { .. }
            | CommitError::Step { cancelled_mid_statement: false, .. },
        ) => true,
        Err(CommitError::Step { cancelled_mid_statement: true, .. }) => false,
        Err(CommitError::Unreachable(error) | CommitError::Transient { error, .. }) => is_usable_after(error),
    };
    if !usable {
        // Returning the connection to the pool could wait on a dead socket forever and keep its slot.
        drop(connection.detach());
    }
    let pid = backend_pid.load(Ordering::Relaxed);
    if cancelled_mid_statement && pid != 0 {
        core.terminate_backend(pid).await.map_err(CommitError::Unreachable)?;
    }
    result
}

async fn in_transaction(
    core: &Arc<Core>,
    connection: &mut PoolConnection<Postgres>,
    members: &[BatchMember],
    recovery: &Recovery,
    options: AttemptOptions,
    backend_pid: &AtomicI32,
) -> Result<BatchResult, CommitError> {
    // These statements know no saga, so none is at fault for their errors.
    let mut transaction = match options {
        // The group commit pays for no round trip. Who holds a lock is asked when parts of its batch wait for it.
        AttemptOptions { path: CommitPath::Grouped, lock_wait: Some(lock_wait) } => {
            store::transactions::begin_bounded(&mut *connection, lock_wait)
                .await
                .map_err(CommitError::Unreachable)?
        }
        AttemptOptions { lock_wait, .. } => {
            let mut transaction = connection.begin().await.map_err(CommitError::Unreachable)?;
            if let Some(lock_wait) = lock_wait {
                let pid = store::commits::bound_lock_waits(&mut transaction, lock_wait)
                    .await
                    .map_err(CommitError::Unreachable)?;
                backend_pid.store(pid, Ordering::Relaxed);
            }
            transaction
        }
    };
    let mut result = advance(core, &mut transaction, members, recovery, options.path, backend_pid).await?;
    if core.faults.is_crashed() || result.crash.is_before_commit() {
        simulate_crash(core);
        return Ok(BatchResult { crash: CrashPoint::BEFORE_COMMIT, ..BatchResult::default() });
    }
    // Deferred constraints are checked here, so a step may be at fault.
    transaction.commit().await.map_err(|error| classify(error.into(), result.last_run))?;
    core.count_commit();
    metrics::counter!("sagaline_commits_total", "kind" => "batch").increment(1);
    std::mem::take(&mut result.metrics).record();
    if result.crash.is_set() {
        simulate_crash(core);
    }
    Ok(result)
}

/// Awaits a transaction whose lock waits are bounded, and asks the server halfway through such a wait who holds the lock.
async fn with_lock_holder(
    core: &Core,
    lock_wait: Option<Duration>,
    backend_pid: &AtomicI32,
    work: impl Future<Output = Result<BatchResult, CommitError>>,
) -> Result<BatchResult, CommitError> {
    let Some(lock_wait) = lock_wait else { return work.await };
    let mut work = pin!(work);
    // Asked ever less often, because a slow step may run for long without waiting for a lock.
    let mut asking = pin!(async {
        let mut pause = lock_wait / 2;
        loop {
            tokio::time::sleep(pause).await;
            pause *= 2;
            let pid = backend_pid.load(Ordering::Relaxed);
            if pid != 0
                && let Ok(Some(holder)) = store::locks::holder(&core.pool, pid, lock_wait).await
            {
                return holder;
            }
        }
    });
    let mut holder = None;
    loop {
        tokio::select! {
            biased;
            result = &mut work => {
                return match result {
                    Err(CommitError::LockTimeout { side, error, .. }) => {
                        Err(CommitError::LockTimeout { side, error, holder })
                    }
                    other => other,
                };
            }
            known = &mut asking, if holder.is_none() => holder = Some(known),
        }
    }
}

/// Simulates a crash that a test asked for: the engine stops and writes nothing from now on.
fn simulate_crash(core: &Core) {
    core.faults.crash();
    core.stop.cancel();
}
