//! The claims of a feed, round by round.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::sync::OwnedSemaphorePermit;

use crate::runtime::claim::feed::QueueState;
use crate::{engine::Core, runtime::job::JobSlots, store::claims::ClaimScope};

/// Claims as long as there are free slots and work; else waits to be woken, for the next known retry, or for the poll that
/// stands behind every hint.
pub(super) async fn claim_while_open(core: Arc<Core>, feed: Arc<QueueState>) {
    let mut away = false;
    while feed.open.load(Ordering::Acquire) && !core.stop.is_cancelled() {
        let round = match claim_once(&core, &feed).await {
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
                Poll::Idle
            }
        };
        let poll = crate::support::jitter::jittered(core.settings.poll);
        let pause = match round {
            Poll::More => continue,
            Poll::Idle => feed.pause(poll),
            Poll::Throttled(wait) => poll.min(wait.max(MIN_WAIT)),
        };
        tokio::select! {
            () = core.stop.cancelled() => return,
            () = feed.wake.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// A throttle that says "nothing for no time at all" is not asked in a busy loop.
const MIN_WAIT: Duration = Duration::from_millis(5);

/// What a look at a queue came to.
#[derive(Clone, Copy, Debug)]
enum Poll {
    /// There may be more at once.
    More,
    /// There is nothing more.
    Idle,
    /// The throttle lets nothing through, for so long.
    Throttled(Duration),
}

/// Claims once.
async fn claim_once(core: &Arc<Core>, feed: &Arc<QueueState>) -> Result<Poll, sqlx::Error> {
    claim_on_probation(core, feed).await?;
    let first = tokio::select! {
        biased;
        slot = feed.slots.clone().acquire_owned() => slot,
        () = feed.probation_ended.notified() => return Ok(Poll::More),
    };
    let Ok(first) = first else { return Ok(Poll::Idle) };
    let budget = match feed.budget(core) {
        Ok(budget) => budget,
        Err(wait) => return Ok(Poll::Throttled(wait)),
    };
    let mut slots = vec![first];
    while slots.len() < budget.max(core.settings.max_batch.min(feed.capacity)) {
        match feed.slots.clone().try_acquire_owned() {
            Ok(slot) => slots.push(slot),
            Err(_) => break,
        }
    }
    feed.forget_due();
    let asked = slots.len();
    let jobs = core.claim(ClaimScope::Queue(&feed.queue), asked).await?;
    let found = jobs.len();
    let (is_probe, mut probe) = (budget.is_probe(), budget.probe(feed, found));
    for mut job in jobs {
        job.slots = JobSlots { slot: slots.pop(), probation: None, probe: probe.take() };
        feed.hand_out(core, job);
    }
    // The end of a probe wakes these claims.
    Ok(if found == asked && !is_probe { Poll::More } else { Poll::Idle })
}

/// Claims a saga whose holder vanished again and again, if none is under way: as soon as the last one ended, else with
/// every poll, however busy the queue is.
async fn claim_on_probation(core: &Arc<Core>, feed: &Arc<QueueState>) -> Result<(), sqlx::Error> {
    let Ok(permit) = feed.probation.clone().try_acquire_owned() else { return Ok(()) };
    let Ok(budget) = feed.budget(core) else { return Ok(()) };
    if !feed.probation_is_due(core.settings.poll) {
        return Ok(());
    }
    let claimed = core.claim(ClaimScope::Probation(&feed.queue), 1).await?;
    if let Some(mut job) = claimed.into_iter().next() {
        job.isolated = true;
        job.slots = JobSlots {
            slot: None,
            probation: Some(ProbationSlot { permit: Some(permit), feed: feed.clone() }),
            probe: budget.probe(feed, 1),
        };
        feed.hand_out(core, job);
    }
    Ok(())
}

/// The place of the one suspect under way; its end has the next one looked for.
pub(crate) struct ProbationSlot {
    permit: Option<OwnedSemaphorePermit>,
    feed: Arc<QueueState>,
}

impl Drop for ProbationSlot {
    fn drop(&mut self) {
        self.permit = None;
        *self.feed.next_probation.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        // Whichever of the two the claims wait for.
        self.feed.probation_ended.notify_one();
        self.feed.wake.notify_one();
    }
}

impl std::fmt::Debug for ProbationSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProbationSlot").field("queue", &self.feed.queue).finish_non_exhaustive()
    }
}
