//! Periodically deletes what is over its time.

use std::time::Duration;

use shop::pruning::{self, Prunable};
use sqlx::PgPool;
use strum::IntoEnumIterator;
use tokio_util::sync::CancellationToken;

/// How often a process looks for rows to delete.
const INTERVAL: Duration = Duration::from_mins(10);

/// Deletes what is over its time, at intervals until `quit`. Any number of processes may do so: of each kind of rows, one
/// process at a time deletes.
pub(crate) async fn housekeep(pool: &PgPool, quit: CancellationToken) {
    let _stopped = quit.run_until_cancelled(keep_pruning(pool)).await;
}

async fn keep_pruning(pool: &PgPool) {
    loop {
        // With jitter, so that processes that start together don't look together.
        tokio::time::sleep(INTERVAL.mul_f64(0.5 + rand::random::<f64>())).await;
        for what in Prunable::iter() {
            match pruning::prune(pool, what).await {
                Ok(pruned) => {
                    tracing::debug!(pruned, rows = what.name(), "rows over their time were deleted");
                }
                Err(error) => {
                    tracing::warn!(%error, rows = what.name(), "rows over their time can't be deleted; trying again later");
                }
            }
        }
    }
}
