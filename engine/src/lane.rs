//! Group commit. Every definition has a lane; what arrives while the last batch is being committed is the next batch. No
//! timer, and no delay when idle.
//!
//! A lane commits one batch after the other, and a batch is tried in it once, for a bounded time: what is split, waits for
//! somebody's lock or takes long goes on [aside], so that nobody waits behind it.

mod aside;
mod attempt;

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::FutureExt;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::{
    advance::{Advanced, Remedy, Track},
    engine::Inner,
    feed::{abandoned, unbegun},
    job::Committed,
    store::claims::ReleaseRow,
    trouble::Trouble,
};
use aside::{Loners, Part};
use attempt::Terms;

/// How many transactions of one lane go on aside at once.
const PLACES: usize = 2;
/// After a batch has waited for a lock in vain, the next ones wait for locks no longer than [`WARY_WAIT`], for so long.
const WARY: Duration = Duration::from_secs(10);
const WARY_WAIT: Duration = Duration::from_millis(200);

/// A track, and who waits for its commit.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) track: Track,
    pub(crate) tell: oneshot::Sender<Committed>,
}

pub(crate) type Sender = mpsc::UnboundedSender<Request>;

/// Where a batch is committed, which decides how long one saga's step may take there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Berth {
    /// In the lane: others wait behind it.
    Lane,
    /// Beside the lane: a saga that is alone there has all the time that its step's policy gives it.
    Aside,
}

/// The group commit of one definition.
struct Lane {
    engine: Arc<Inner>,
    places: Semaphore,
    loners: Loners,
}

/// Commits what arrives, until every sender is gone or the engine has stopped and nothing is left.
pub(crate) async fn run(engine: Arc<Inner>, mut arrivals: mpsc::UnboundedReceiver<Request>) {
    let lane = Arc::new(Lane { engine, places: Semaphore::new(PLACES), loners: Loners::default() });
    let engine = &lane.engine;
    let mut batch = Vec::new();
    let mut wary_until = None;
    loop {
        let arrived = tokio::select! {
            biased;
            count = arrivals.recv_many(&mut batch, engine.settings.max_batch) => count,
            () = engine.stop.cancelled() => { arrivals.close(); 0 }
        };
        if arrived == 0 && arrivals.is_closed() && arrivals.is_empty() {
            return;
        }
        gather(&mut batch, &mut arrivals, engine.settings.max_batch).await;
        let (alone, together): (Vec<_>, Vec<_>) = batch
            .drain(..)
            .partition(|request| request.track.job.solo || lane.loners.know(request.track.job.saga_id));
        for request in alone {
            lane.clone().go_aside(Part::whole(vec![request]), None);
        }
        if together.is_empty() {
            continue;
        }
        let is_wary = wary_until.is_some_and(|until| Instant::now() < until);
        let terms = Terms { berth: Berth::Lane, lock_wait: is_wary.then_some(WARY_WAIT) };
        // User code is guarded one by one. Should the engine's own code panic, the lane goes on: the batch's claims
        // are lost here, and taken over when their leases end.
        match AssertUnwindSafe(commit(&lane, together, terms)).catch_unwind().await {
            // Only a wait of full length shows that a lock is held for long.
            Ok(Held::Up) if !is_wary => wary_until = Some(Instant::now() + WARY),
            Ok(Held::Up | Held::Not) => {}
            Err(_) => {
                tracing::error!(
                    "committing a batch panicked; its sagas are taken over when their leases end"
                );
            }
        }
    }
}

/// Lets those join who are ready right now, as after a claim of many. It waits for nobody.
pub(crate) async fn gather<T>(
    batch: &mut Vec<T>,
    arrivals: &mut mpsc::UnboundedReceiver<T>,
    max_batch: usize,
) {
    tokio::task::yield_now().await;
    while batch.len() < max_batch {
        match arrivals.try_recv() {
            Ok(one) => batch.push(one),
            Err(_) => return,
        }
    }
}

/// Whether a batch was held up by somebody's lock.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    Up,
    Not,
}

/// Tries a batch in the lane.
async fn commit(lane: &Arc<Lane>, batch: Vec<Request>, terms: Terms) -> Held {
    let (tells, tracks) = unzip(batch);
    match attempt::patiently(&lane.engine, &tracks, &Remedy::None, terms).await {
        Ok(advanced) => {
            settle(&lane.engine, tracks, tells, advanced);
            Held::Not
        }
        Err(Trouble::Transient(error)) => {
            database_is_away(&lane.engine, zip(tracks, tells), &error);
            Held::Not
        }
        Err(trouble) => {
            let held = if matches!(trouble, Trouble::Locked(_)) { Held::Up } else { Held::Not };
            lane.clone().go_aside(Part::whole(zip(tracks, tells)), Some(trouble));
            held
        }
    }
}

fn zip(tracks: Vec<Track>, tells: Vec<oneshot::Sender<Committed>>) -> Vec<Request> {
    tracks.into_iter().zip(tells).map(|(track, tell)| Request { track, tell }).collect()
}

fn unzip(requests: Vec<Request>) -> (Vec<oneshot::Sender<Committed>>, Vec<Track>) {
    requests.into_iter().map(|request| (request.tell, request.track)).unzip()
}

/// Passes on what a committed batch came to.
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

/// Gives up what no trying again has helped.
fn database_is_away(engine: &Arc<Inner>, requests: Vec<Request>, error: &sqlx::Error) {
    tracing::warn!(sagas = requests.len(), error = %error, "gave up a batch: the database is away for too long");
    give_up(engine, requests, Duration::ZERO, None);
}

/// Gives claims back without an outcome, to be due after `delay`; `error` tells what kept them.
fn give_up(engine: &Arc<Inner>, requests: Vec<Request>, delay: Duration, error: Option<&str>) {
    let (tells, tracks) = unzip(requests);
    let delay_ms = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
    let rows = tracks.iter().map(|track| {
        // A call that was made stays an attempt, and in doubt; a batch left no trace.
        let row = if track.called() { abandoned(&track.job) } else { unbegun(&track.job) };
        ReleaseRow { delay_ms, error: error.map(|error| crate::text::storable(error.into())), ..row }
    });
    engine.holds.release_later(rows);
    engine.keeper.notify_one();
    if let Some(track) = tracks.first() {
        engine.feeds.due_in(&track.job.queue, delay);
    }
    drop(tracks);
    for tell in tells {
        let _ = tell.send(Committed::Lost);
    }
}
