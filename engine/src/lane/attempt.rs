//! One batch in one transaction, tried again while its trouble is nobody's fault.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{Acquire, Postgres, pool::PoolConnection};

use super::Berth;
use crate::{
    advance::{self, Advanced, Remedy, Track},
    engine::Inner,
    faults::Fault,
    store,
    trouble::Trouble,
    upkeep,
};

/// A batch that was dropped by everybody's fault but its own is not tried for ever: past the lease the claims are lost.
const LEASE_SHARE: f64 = 0.8;
/// No transaction of ours takes longer; a connection that died silently is given up then.
const TRANSACTION_LIMIT: Duration = Duration::from_mins(1);

/// How a batch is tried.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) berth: Berth,
    /// How long a statement waits for a lock; `None` leaves it to the connection's own limit.
    pub(super) lock_wait: Option<Duration>,
}

/// Tries a batch again while its trouble is nobody's fault and its leases can still be ours. Trying again is safe: if the
/// commit whose answer was lost did happen, the fence finds other sequence numbers and drops the batch.
///
/// A lock that somebody else holds ends it at once: it may be held for long, and only by those who need it must it be
/// waited for. But an answer of the outside world is not given up for it as long as there is time.
pub(super) async fn patiently(
    engine: &Arc<Inner>,
    tracks: &[Track],
    remedy: &Remedy,
    terms: Terms,
) -> Result<Advanced, Trouble> {
    let began = Instant::now();
    let patience = engine.settings.lease.mul_f64(LEASE_SHARE);
    let insists = terms.berth == Berth::Aside && tracks.len() == 1 && tracks[0].called();
    let mut pause = Duration::from_millis(5);
    loop {
        renew(engine, tracks).await;
        let error = match once(engine, tracks, remedy, terms).await {
            Err(Trouble::Transient(error)) => error,
            Err(Trouble::Locked(error)) if insists => error,
            other => return other,
        };
        if began.elapsed() + pause >= patience {
            return Err(Trouble::Transient(error));
        }
        tracing::debug!(error = %error, "a batch met trouble that will pass; trying again");
        metrics::counter!("sagaline_set_retries_total").increment(1);
        tokio::time::sleep(crate::clock::jittered(pause)).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

/// Extends leases of which an earlier part, or an earlier try, has used up some.
async fn renew(engine: &Arc<Inner>, tracks: &[Track]) {
    let saga_ids = tracks.iter().map(|track| track.job.saga_id);
    let aged = engine.holds.aged_of(saga_ids, engine.settings.lease / 6);
    if !aged.is_empty()
        && let Err(error) = engine.renew(&aged).await
    {
        tracing::debug!(error = %error, "can't extend the leases of a batch; it goes on with what is left of them");
    }
}

/// Runs a batch in one transaction.
async fn once(
    engine: &Arc<Inner>,
    tracks: &[Track],
    remedy: &Remedy,
    terms: Terms,
) -> Result<Advanced, Trouble> {
    let mut connection = engine.pool.acquire().await.map_err(Trouble::Transient)?;
    let mut backend = None;
    let work = in_transaction(engine, &mut connection, tracks, remedy, terms, &mut backend);
    let (result, midway) = match tokio::time::timeout(TRANSACTION_LIMIT, work).await {
        Err(_) => (Err(Trouble::Transient(upkeep::late("the transaction took too long"))), true),
        Ok(result) => {
            let midway = matches!(result, Err(Trouble::Step { midway: true, .. }));
            (result, midway)
        }
    };
    let usable = match &result {
        Ok(_) | Err(Trouble::Locked(_) | Trouble::Step { midway: false, .. }) => true,
        Err(Trouble::Step { midway: true, .. }) => false,
        Err(Trouble::Transient(error)) => matches!(error, sqlx::Error::Database(_)),
    };
    if !usable {
        // Handing it back could wait on a dead socket for ever and keep its place in the pool.
        drop(connection.detach());
    }
    if midway && let Some(backend) = backend {
        engine.terminate(backend).await.map_err(Trouble::Transient)?;
    }
    result
}

async fn in_transaction(
    engine: &Arc<Inner>,
    connection: &mut PoolConnection<Postgres>,
    tracks: &[Track],
    remedy: &Remedy,
    terms: Terms,
    backend: &mut Option<i32>,
) -> Result<Advanced, Trouble> {
    let mut transaction = connection.begin().await.map_err(Trouble::Transient)?;
    if let Some(lock_wait) = terms.lock_wait {
        store::moves::bound_lock_waits(&mut transaction, lock_wait).await.map_err(Trouble::Transient)?;
    }
    let mut advanced =
        advance::advance(engine, &mut transaction, tracks, remedy, terms.berth, backend).await?;
    if engine.is_dead() || advanced.crash == Some(Fault::CrashBeforeCommit) {
        engine.die();
        return Ok(Advanced { crash: Some(Fault::CrashBeforeCommit), ..Advanced::default() });
    }
    transaction.commit().await.map_err(Trouble::Transient)?;
    metrics::counter!("sagaline_commits_total", "kind" => "set").increment(1);
    std::mem::take(&mut advanced.tally).record();
    if advanced.crash.is_some() {
        engine.die();
    }
    Ok(advanced)
}
