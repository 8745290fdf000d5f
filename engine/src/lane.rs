//! Group commit. Every definition has a lane; what arrives while the last set is being committed is the next set. No
//! timer, and no delay when idle.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::FutureExt;
use sqlx::{Acquire, Postgres, pool::PoolConnection};
use tokio::sync::{mpsc, oneshot};

use crate::{
    advance::{self, Advanced, Remedy, Track},
    engine::Inner,
    faults::Fault,
    feed::{abandoned, unbegun},
    job::Committed,
    store::claims::ReleaseRow,
    trouble::Trouble,
    upkeep,
};

/// A set that was dropped by everybody's fault but its own is not tried for ever: past the lease the claims are lost.
const LEASE_SHARE: f64 = 0.8;
/// A saga whose outcome can't be written is left alone this long.
const SET_ASIDE: Duration = Duration::from_secs(15);
/// No transaction of ours takes longer; a connection that died silently is given up then.
const TRANSACTION_LIMIT: Duration = Duration::from_mins(1);

/// A track, and who waits for its commit.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) track: Track,
    pub(crate) tell: oneshot::Sender<Committed>,
}

pub(crate) type Sender = mpsc::UnboundedSender<Request>;

/// Commits what arrives, until every sender is gone or the engine has stopped and nothing is left.
pub(crate) async fn run(engine: Arc<Inner>, mut arrivals: mpsc::UnboundedReceiver<Request>) {
    let mut set = Vec::new();
    loop {
        let arrived = tokio::select! {
            biased;
            count = arrivals.recv_many(&mut set, engine.settings.max_set) => count,
            () = engine.stop.cancelled() => { arrivals.close(); 0 }
        };
        if arrived == 0 && arrivals.is_closed() && arrivals.is_empty() {
            return;
        }
        gather(&mut set, &mut arrivals, engine.settings.max_set).await;
        let (alone, together): (Vec<_>, Vec<_>) = set.drain(..).partition(|request| request.track.job.solo);
        let sets = std::iter::once(together).chain(alone.into_iter().map(|request| vec![request]));
        for set in sets.filter(|set| !set.is_empty()) {
            // User code is guarded one by one. Should the engine's own code panic, the lane goes on: the set's claims
            // are lost here, and taken over when their leases end.
            if AssertUnwindSafe(commit(&engine, set)).catch_unwind().await.is_err() {
                tracing::error!("committing a set panicked; its sagas are taken over when their leases end");
            }
        }
    }
}

/// Lets those join who are ready right now, as after a claim of many. It waits for nobody.
pub(crate) async fn gather<T>(set: &mut Vec<T>, arrivals: &mut mpsc::UnboundedReceiver<T>, max_set: usize) {
    tokio::task::yield_now().await;
    while set.len() < max_set {
        match arrivals.try_recv() {
            Ok(one) => set.push(one),
            Err(_) => return,
        }
    }
}

/// Commits a set, in parts where it must: a part that fails is split in halves until the saga at fault is alone.
async fn commit(engine: &Arc<Inner>, set: Vec<Request>) {
    let mut parts: Vec<(Vec<Request>, Remedy)> = vec![(set, Remedy::None)];
    while let Some((mut part, remedy)) = parts.pop() {
        let (tells, tracks): (Vec<_>, Vec<_>) =
            part.drain(..).map(|request| (request.tell, request.track)).unzip();
        match patiently(engine, &tracks, &remedy).await {
            Ok(advanced) => settle(engine, tracks, tells, advanced),
            Err(Trouble::Transient(error)) => {
                tracing::warn!(sagas = tracks.len(), error = %error, "gave up a set: the database is away for too long");
                give_up(engine, tracks, tells, Duration::ZERO);
            }
            Err(Trouble::Step { at, error, .. }) if tracks.len() == 1 => {
                // What can't be written may be the answer of the call itself.
                let at = at.or_else(|| tracks[0].called_at());
                let saga_id = tracks[0].job.saga_id;
                if let Some(next) = remedy.next(at, error.clone()) {
                    if matches!(next, Remedy::Park(_)) {
                        tracing::error!(saga.id = %saga_id, error = ?error, "a saga's outcome can't be written; it is parked");
                    }
                    parts.push((zip(tracks, tells), next));
                } else {
                    tracing::error!(saga.id = %saga_id, error = ?error, "a saga can't even be parked; it is set aside");
                    give_up(engine, tracks, tells, SET_ASIDE);
                }
            }
            Err(Trouble::Step { error, .. }) => {
                tracing::debug!(sagas = tracks.len(), error = ?error, "a set failed; splitting it");
                metrics::counter!("sagaline_set_splits_total").increment(1);
                let mut requests = zip(tracks, tells);
                let second = requests.split_off(requests.len() / 2);
                parts.push((second, Remedy::None));
                parts.push((requests, Remedy::None));
            }
        }
    }
}

fn zip(tracks: Vec<Track>, tells: Vec<oneshot::Sender<Committed>>) -> Vec<Request> {
    tracks.into_iter().zip(tells).map(|(track, tell)| Request { track, tell }).collect()
}

/// Tries a set again while its trouble is nobody's fault and its leases can still be ours. Trying again is safe: if the
/// commit whose answer was lost did happen, the fence finds other sequence numbers and drops the set.
async fn patiently(engine: &Arc<Inner>, tracks: &[Track], remedy: &Remedy) -> Result<Advanced, Trouble> {
    let began = Instant::now();
    let patience = engine.settings.lease.mul_f64(LEASE_SHARE);
    let mut pause = Duration::from_millis(5);
    loop {
        renew(engine, tracks).await;
        match once(engine, tracks, remedy).await {
            Err(Trouble::Transient(error)) if began.elapsed() + pause < patience => {
                tracing::debug!(error = %error, "a set met trouble that will pass; trying again");
                metrics::counter!("sagaline_set_retries_total").increment(1);
                tokio::time::sleep(crate::clock::jittered(pause)).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
            other => return other,
        }
    }
}

/// Extends leases of which an earlier part, or an earlier try, has used up some.
async fn renew(engine: &Arc<Inner>, tracks: &[Track]) {
    let saga_ids = tracks.iter().map(|track| track.job.saga_id);
    let aged = engine.holds.aged_of(saga_ids, engine.settings.lease / 6);
    if !aged.is_empty()
        && let Err(error) = engine.renew(&aged).await
    {
        tracing::debug!(error = %error, "can't extend the leases of a set; it goes on with what is left of them");
    }
}

/// Runs a set in one transaction.
async fn once(engine: &Arc<Inner>, tracks: &[Track], remedy: &Remedy) -> Result<Advanced, Trouble> {
    let mut connection = engine.pool.acquire().await.map_err(Trouble::Transient)?;
    let mut backend = None;
    let work = in_transaction(engine, &mut connection, tracks, remedy, &mut backend);
    let (result, midway) = match tokio::time::timeout(TRANSACTION_LIMIT, work).await {
        Err(_) => (Err(Trouble::Transient(upkeep::late("the transaction took too long"))), true),
        Ok(result) => {
            let midway = matches!(result, Err(Trouble::Step { midway: true, .. }));
            (result, midway)
        }
    };
    let usable = match &result {
        Ok(_) | Err(Trouble::Step { midway: false, .. }) => true,
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
    backend: &mut Option<i32>,
) -> Result<Advanced, Trouble> {
    let mut transaction = connection.begin().await.map_err(Trouble::Transient)?;
    let mut advanced = advance::advance(engine, &mut transaction, tracks, remedy, backend).await?;
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

/// Passes on what a committed set came to.
fn settle(
    engine: &Arc<Inner>,
    tracks: Vec<Track>,
    tells: Vec<oneshot::Sender<Committed>>,
    advanced: Advanced,
) {
    if advanced.crash.is_some() {
        // As if the process had died: claims stay leased, and nobody here learns anything.
        return;
    }
    let mut jobs: Vec<_> = tracks.into_iter().map(|track| Some(track.job)).collect();
    if let Some(delay) = advanced.next_due
        && let Some(queue) = jobs.iter().flatten().next().map(|job| job.queue.clone())
    {
        engine.feeds.due_in(&queue, delay);
    }
    for place in &advanced.lost {
        if let Some(job) = &jobs[*place] {
            tracing::warn!(saga.id = %job.saga_id, saga.epoch = job.epoch, "a claim was lost; its work was dropped");
            metrics::counter!("sagaline_claims_lost_total").increment(1);
        }
    }
    let onward: Vec<_> = advanced
        .going_on
        .into_iter()
        .filter_map(|(place, onward)| jobs[place].take().map(|job| onward.job(job)))
        .collect();
    engine.committed(advanced.after);
    drop(jobs);
    // First the next jobs, as `Engine::commit` promises to those told below.
    for job in onward {
        engine.feeds.give(engine, job);
    }
    for (place, tell) in tells.into_iter().enumerate() {
        let committed = if advanced.lost.contains(&place) { Committed::Lost } else { Committed::Moved };
        // A worker that was dropped does not need to know.
        let _ = tell.send(committed);
    }
}

/// Gives claims back without an outcome.
fn give_up(engine: &Arc<Inner>, tracks: Vec<Track>, tells: Vec<oneshot::Sender<Committed>>, delay: Duration) {
    let delay_ms = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
    let rows = tracks.iter().map(|track| {
        // A call that was made stays an attempt, and in doubt; a set left no trace.
        let row = if track.called() { abandoned(&track.job) } else { unbegun(&track.job) };
        ReleaseRow { delay_ms, ..row }
    });
    engine.holds.release_later(rows);
    engine.keeper.notify_one();
    drop(tracks);
    for tell in tells {
        let _ = tell.send(Committed::Lost);
    }
}
