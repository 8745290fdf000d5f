//! Periodically deletes what is over its time, and records what stays as it is.

use std::time::Duration;

use shop::{
    orders,
    pruning::{Prunable, Pruner},
};
use sqlx::PgPool;
use strum::IntoEnumIterator;
use tokio_util::sync::CancellationToken;

/// How often a process looks for rows to delete.
const INTERVAL: Duration = Duration::from_mins(1);

/// Deletes what is over its time, and records confirmed orders, at intervals until `quit`. Any number of processes may do
/// so: of each kind of rows, one process at a time has a batch.
pub(crate) async fn housekeep(pruner: &Pruner, pool: &PgPool, quit: CancellationToken) {
    let _stopped = quit.run_until_cancelled(keep_house(pruner, pool)).await;
}

async fn keep_house(pruner: &Pruner, pool: &PgPool) {
    loop {
        // With jitter, so that processes that start together don't look together.
        tokio::time::sleep(INTERVAL.mul_f64(0.5 + rand::random::<f64>())).await;
        if let Err(error) = orders::record_confirmed(pool).await {
            tracing::warn!(error = %engine::ErrorChain(&error), "confirmed orders can't be recorded for their list; trying again later");
        }
        for what in Prunable::iter() {
            match pruner.prune(what).await {
                Ok(deleted) => {
                    tracing::debug!(deleted, rows = what.name(), "rows over their time were deleted");
                }
                Err(error) => {
                    tracing::warn!(error = %engine::ErrorChain(&error), rows = what.name(), "rows over their time can't be deleted; trying again later");
                }
            }
            // Also after an error: that the lag grows is what tells of it.
            if let Err(error) = pruner.record_lag(what).await {
                tracing::debug!(error = %engine::ErrorChain(&error), rows = what.name(), "the lag of deletions can't be measured");
            }
        }
    }
}
