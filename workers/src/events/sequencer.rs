//! Moves events from the outbox into the event log, and deletes old ones.

use std::time::Duration;

use metrics::counter;
use tokio_util::sync::CancellationToken;

use super::event_log::{EventLog, Sequenced};
use crate::metrics::{EVENTS_PRUNED, EVENTS_SEQUENCED};

/// The pause after an empty outbox. Any number of processes poll; one of them moves events at a time.
const IDLE_PAUSE: Duration = Duration::from_millis(100);
/// The pause after an error of the event log.
const ERROR_PAUSE: Duration = Duration::from_secs(1);
/// The most events moved at a time.
const BATCH_SIZE: u32 = 2_000;
/// How often old events are deleted.
const PRUNE_INTERVAL: Duration = Duration::from_mins(1);
/// The most events that one statement deletes.
const PRUNE_BATCH_SIZE: u32 = 1_000;

/// Moves committed events into the event log until `quit`.
pub(super) async fn run(log: impl EventLog, quit: CancellationToken) {
    let mut failing = false;
    while !quit.is_cancelled() {
        let pause = match log.sequence(BATCH_SIZE).await {
            Ok(Sequenced::Moved(moved)) => {
                counter!(EVENTS_SEQUENCED).increment(moved);
                failing = false;
                if moved == u64::from(BATCH_SIZE) { Duration::ZERO } else { jittered(IDLE_PAUSE) }
            }
            Ok(Sequenced::Busy) => jittered(IDLE_PAUSE),
            Err(error) => {
                if !failing {
                    tracing::warn!(error = %engine::ErrorChain(&error), "events can't be moved out of the outbox now; trying again");
                }
                failing = true;
                jittered(ERROR_PAUSE)
            }
        };
        sleep(pause, &quit).await;
    }
}

/// Deletes events older than `retention` until `quit`.
pub(super) async fn prune(log: impl EventLog, retention: Duration, quit: CancellationToken) {
    // A retention below the interval takes effect within itself.
    let interval = PRUNE_INTERVAL.min(retention);
    while !quit.is_cancelled() {
        let pause = match log.prune(retention, PRUNE_BATCH_SIZE).await {
            Ok(pruned) => {
                counter!(EVENTS_PRUNED).increment(pruned);
                if pruned == u64::from(PRUNE_BATCH_SIZE) { Duration::ZERO } else { jittered(interval) }
            }
            Err(error) => {
                tracing::warn!(error = %engine::ErrorChain(&error), "old events can't be deleted now; trying again later");
                jittered(interval)
            }
        };
        sleep(pause, &quit).await;
    }
}

/// A pause with jitter, so that processes that started together don't poll in lockstep.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..=1.0))
}

async fn sleep(pause: Duration, quit: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        () = quit.cancelled() => {}
    }
}
