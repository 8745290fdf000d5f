//! Moves events from the outbox into the log, and throws away old ones.

use std::time::Duration;

use metrics::counter;
use shop::events::{self, Sequenced};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::{PRUNED, SEQUENCED};

/// Between two looks at an outbox that was empty. Any number of processes look.
const IDLE_PAUSE: Duration = Duration::from_millis(100);
/// After trouble with the database.
const ERROR_PAUSE: Duration = Duration::from_secs(1);
/// So many events one round moves.
const BATCH_SIZE: u32 = 2_000;
/// How often old events are looked for, and how many one statement deletes.
const PRUNE_INTERVAL: Duration = Duration::from_mins(1);
const PRUNE_BATCH_SIZE: u32 = 1_000;

/// Moves what is committed until `quit`.
pub(super) async fn run(pool: PgPool, quit: CancellationToken) {
    let mut failing = false;
    while !quit.is_cancelled() {
        let pause = match events::sequence(&pool, BATCH_SIZE).await {
            Ok(Sequenced::Moved(moved)) => {
                counter!(SEQUENCED).increment(moved);
                failing = false;
                if moved == u64::from(BATCH_SIZE) { Duration::ZERO } else { spread(IDLE_PAUSE) }
            }
            Ok(Sequenced::Busy) => spread(IDLE_PAUSE),
            Err(error) => {
                if !failing {
                    tracing::warn!(%error, "events can't be moved out of the outbox now; trying again");
                }
                failing = true;
                spread(ERROR_PAUSE)
            }
        };
        sleep(pause, &quit).await;
    }
}

/// Throws away what is old enough until `quit`.
pub(super) async fn prune(pool: PgPool, retention: Duration, quit: CancellationToken) {
    // A short retention is meant to be seen.
    let period = PRUNE_INTERVAL.min(retention);
    while !quit.is_cancelled() {
        let pause = match events::prune(&pool, retention, PRUNE_BATCH_SIZE).await {
            Ok(pruned) => {
                counter!(PRUNED).increment(pruned);
                if pruned == u64::from(PRUNE_BATCH_SIZE) { Duration::ZERO } else { spread(period) }
            }
            Err(error) => {
                tracing::warn!(%error, "old events can't be thrown away now; trying again later");
                spread(period)
            }
        };
        sleep(pause, &quit).await;
    }
}

/// Spread, so that processes started together don't look together.
fn spread(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..=1.0))
}

async fn sleep(pause: Duration, quit: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        () = quit.cancelled() => {}
    }
}
