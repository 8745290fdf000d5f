//! The claim loop of one queue: polls for due sagas.

use std::{sync::Arc, time::Duration};

use crate::{
    model::error_chain::ErrorChain,
    runtime::{
        claim::{
            allowance,
            claim_sagas::{Asked, Claimed, claim},
        },
        core::Core,
        job::Job,
        lease_updates,
        queue::{feeds::QueueState, scan_window::ScanWindow},
        slots::{JobSlots, ProbationSlot},
    },
    store::claims::ClaimScope,
    support::jitter::jittered,
};

/// Claims while there are free slots and due sagas. Otherwise it waits until it is woken, a known retry is due, or the
/// next poll, which finds work for which no hint arrived.
pub(super) async fn claim_while_open(core: Arc<Core>, state: Arc<QueueState>) {
    let mut away = false;
    while state.is_open() && !core.stop.is_cancelled() {
        let poll_result = match claim_once(&core, &state).await {
            Ok(result) => {
                if std::mem::take(&mut away) {
                    tracing::info!(queue = %state.queue(), "the database responds again; claiming continues");
                }
                result
            }
            Err(error) => {
                if !std::mem::replace(&mut away, true) {
                    tracing::warn!(queue = %state.queue(), error = %ErrorChain(&error), "can't claim now; trying again until it works");
                }
                Poll::Idle
            }
        };
        let poll = jittered(core.settings.poll);
        let pause = match poll_result {
            Poll::More => continue,
            Poll::Idle => state.pause(poll),
            Poll::Throttled(wait) => poll.min(wait.max(MIN_WAIT)),
        };
        tokio::select! {
            () = core.stop.cancelled() => return,
            () = state.signals.wake.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// The shortest wait when a throttle blocks the queue, so that a throttle that answers zero does not make this a busy
/// loop.
const MIN_WAIT: Duration = Duration::from_millis(5);

/// The result of one claim.
#[derive(Clone, Copy, Debug)]
enum Poll {
    /// There may be more due sagas.
    More,
    /// No more sagas are due.
    Idle,
    /// The throttle blocks the queue for this long.
    Throttled(Duration),
}

/// Claims one batch.
async fn claim_once(core: &Core, state: &QueueState) -> Result<Poll, sqlx::Error> {
    claim_on_probation(core, state).await?;
    let first = tokio::select! {
        biased;
        slot = state.slots.clone().acquire_owned() => slot,
        () = state.signals.probation_ended.notified() => return Ok(Poll::More),
    };
    let Ok(first) = first else { return Ok(Poll::Idle) };
    let budget = match allowance::budget(core, state) {
        Ok(budget) => budget,
        Err(wait) => return Ok(Poll::Throttled(wait)),
    };
    let mut slots = vec![first];
    while slots.len() < budget.max(core.settings.max_batch.min(state.capacity)) {
        match state.slots.clone().try_acquire_owned() {
            Ok(slot) => slots.push(slot),
            Err(_) => break,
        }
    }
    state.forget_due();
    let asked = slots.len();
    let (jobs, more) = claim_next(core, state, asked).await?;
    let found = jobs.len();
    let (is_probe, mut probe) = (budget.is_probe(), budget.probe(state, found));
    for mut job in jobs {
        job.slots = JobSlots { slot: slots.pop(), probation: None, probe: probe.take() };
        hand_out(core, state, job);
    }
    // When the probe ends, it wakes this loop.
    Ok(if more && !is_probe { Poll::More } else { Poll::Idle })
}

/// Claims at most `limit` sagas: those to be claimed by id, else those whose lease ended, else those that are due. Also
/// tells whether there may be more.
async fn claim_next(core: &Core, state: &QueueState, limit: usize) -> Result<(Vec<Job>, bool), sqlx::Error> {
    let named = state.take_named(limit);
    if !named.is_empty() {
        return Ok((claim(core, ClaimScope::Ids(&named), limit).await?.jobs, true));
    }
    let queue = state.queue();
    if state.lapsed_is_due(core.settings.poll) {
        let lapsed = claim_window(core, &state.lapsed_window, limit, |lookback_ms| ClaimScope::Lapsed {
            queue,
            lookback_ms,
        })
        .await?;
        if !lapsed.jobs.is_empty() {
            return Ok((lapsed.jobs, true));
        }
    }
    let due =
        claim_window(core, &state.due_window, limit, |lookback_ms| ClaimScope::Due { queue, lookback_ms })
            .await?;
    // Parts of which none succeeded are asked for again with the next poll.
    let in_parts = due.asked == Asked::InParts && !due.jobs.is_empty();
    let more = due.left.is_some() || in_parts || state.has_named();
    Ok((due.jobs, more))
}

/// Claims what the window shows, and moves the window on.
async fn claim_window<'a>(
    core: &Core,
    window: &ScanWindow,
    limit: usize,
    scope: impl FnOnce(i64) -> ClaimScope<'a>,
) -> Result<Claimed, sqlx::Error> {
    let scan = window.begin();
    let claimed = claim(core, scope(scan.lookback_ms()), limit).await;
    match &claimed {
        Ok(Claimed { asked: Asked::Whole, left, .. }) => window.end(scan, *left),
        // The next claim looks at what this one did, without those that can't be claimed.
        Ok(Claimed { asked: Asked::No | Asked::InParts, .. }) => {}
        Err(_) => window.fail(scan),
    }
    claimed
}

/// Claims a saga on probation: one whose holder vanished twice or more in a row. Only one such saga of a queue runs at
/// a time. The next is claimed when it ends, or with the next poll, even if the queue is busy.
async fn claim_on_probation(core: &Core, state: &QueueState) -> Result<(), sqlx::Error> {
    let Ok(permit) = state.probation.clone().try_acquire_owned() else { return Ok(()) };
    let Ok(budget) = allowance::budget(core, state) else { return Ok(()) };
    if !state.probation_is_due(core.settings.poll) {
        return Ok(());
    }
    let claimed = claim(core, ClaimScope::Probation(state.queue()), 1).await?;
    if let Some(mut job) = claimed.jobs.into_iter().next() {
        job.isolated = true;
        job.slots = JobSlots {
            slot: None,
            probation: Some(ProbationSlot { permit: Some(permit), signals: state.signals.clone() }),
            probe: budget.probe(state, 1),
        };
        hand_out(core, state, job);
    }
    Ok(())
}

fn hand_out(core: &Core, state: &QueueState, job: Job) {
    if let Some(rejected) = state.hand_out(job) {
        lease_updates::release_unstarted(core, [rejected]);
    }
}
