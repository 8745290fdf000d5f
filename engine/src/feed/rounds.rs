//! The claims of a feed, round by round.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::sync::OwnedSemaphorePermit;

use super::Shared;
use crate::{engine::Inner, job::Permit, store::claims::Pick};

/// Claims as long as there is room and work; else waits to be woken, for the next known retry, or for the poll that
/// stands behind every hint.
pub(super) async fn claim_while_open(engine: Arc<Inner>, feed: Arc<Shared>) {
    let mut away = false;
    while feed.open.load(Ordering::Acquire) && !engine.stop.is_cancelled() {
        let round = match claim_round(&engine, &feed).await {
            Ok(round) => {
                if std::mem::take(&mut away) {
                    tracing::info!(queue = %feed.queue, "the database answers again; claiming goes on");
                }
                round
            }
            Err(error) => {
                if !std::mem::replace(&mut away, true) {
                    tracing::warn!(queue = %feed.queue, error = %error, "can't claim now; trying again until it works");
                }
                Round::Idle
            }
        };
        let poll = crate::clock::jittered(engine.settings.poll);
        let pause = match round {
            Round::More => continue,
            Round::Idle => feed.pause(poll),
            Round::HeldBack(wait) => poll.min(wait.max(SHORTEST_WAIT)),
        };
        tokio::select! {
            () = engine.stop.cancelled() => return,
            () = feed.wake.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// A throttle that says "nothing for no time at all" is not asked in a busy loop.
const SHORTEST_WAIT: Duration = Duration::from_millis(5);

/// What a look at a queue came to.
#[derive(Clone, Copy, Debug)]
enum Round {
    /// There may be more at once.
    More,
    /// There is nothing more.
    Idle,
    /// The throttle lets nothing through, for so long.
    HeldBack(Duration),
}

/// Claims once.
async fn claim_round(engine: &Arc<Inner>, feed: &Arc<Shared>) -> Result<Round, sqlx::Error> {
    claim_suspect(engine, feed).await?;
    let first = tokio::select! {
        biased;
        room = feed.room.clone().acquire_owned() => room,
        () = feed.suspect_ended.notified() => return Ok(Round::More),
    };
    let Ok(first) = first else { return Ok(Round::Idle) };
    let leave = match feed.leave(engine) {
        Ok(leave) => leave,
        Err(wait) => return Ok(Round::HeldBack(wait)),
    };
    let mut rooms = vec![first];
    while rooms.len() < leave.most(engine.settings.max_batch.min(feed.capacity)) {
        match feed.room.clone().try_acquire_owned() {
            Ok(room) => rooms.push(room),
            Err(_) => break,
        }
    }
    feed.forget_due();
    let asked = rooms.len();
    let jobs = engine.claim(Pick::Usual(&feed.queue), asked).await?;
    let found = jobs.len();
    let (is_trial, mut trial) = (leave.is_trial(), leave.trial(feed, found));
    for mut job in jobs {
        job.permit = Permit { room: rooms.pop(), suspect: None, trial: trial.take() };
        feed.hand_out(engine, job);
    }
    // The end of a trial wakes these claims.
    Ok(if found == asked && !is_trial { Round::More } else { Round::Idle })
}

/// Claims a saga whose holder vanished again and again, if none is under way: as soon as the last one ended, else with
/// every poll, however busy the queue is.
async fn claim_suspect(engine: &Arc<Inner>, feed: &Arc<Shared>) -> Result<(), sqlx::Error> {
    let Ok(permit) = feed.suspects.clone().try_acquire_owned() else { return Ok(()) };
    let Ok(leave) = feed.leave(engine) else { return Ok(()) };
    if !feed.suspects_are_due(engine.settings.poll) {
        return Ok(());
    }
    let claimed = engine.claim(Pick::Suspect(&feed.queue), 1).await?;
    if let Some(mut job) = claimed.into_iter().next() {
        job.solo = true;
        job.permit = Permit {
            room: None,
            suspect: Some(Suspect { permit: Some(permit), feed: feed.clone() }),
            trial: leave.trial(feed, 1),
        };
        feed.hand_out(engine, job);
    }
    Ok(())
}

/// The place of the one suspect under way; its end has the next one looked for.
pub(crate) struct Suspect {
    permit: Option<OwnedSemaphorePermit>,
    feed: Arc<Shared>,
}

impl Drop for Suspect {
    fn drop(&mut self) {
        self.permit = None;
        *self.feed.next_suspect.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        // Whichever of the two the claims wait for.
        self.feed.suspect_ended.notify_one();
        self.feed.wake.notify_one();
    }
}

impl std::fmt::Debug for Suspect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Suspect").field("queue", &self.feed.queue).finish_non_exhaustive()
    }
}
