//! Periodically deletes what is over its time.

use std::time::Duration;

use shop::pruning::{Prunable, Pruner};
use strum::IntoEnumIterator;
use tokio_util::sync::CancellationToken;

/// How often a process looks for rows to delete.
const INTERVAL: Duration = Duration::from_mins(1);

/// Deletes what is over its time, at intervals until `quit`. Any number of processes may do so: of each kind of rows, one
/// process at a time deletes.
pub(crate) async fn housekeep(pruner: &Pruner, quit: CancellationToken) {
    let _stopped = quit.run_until_cancelled(keep_pruning(pruner)).await;
}

async fn keep_pruning(pruner: &Pruner) {
    loop {
        // With jitter, so that processes that start together don't look together.
        tokio::time::sleep(INTERVAL.mul_f64(0.5 + rand::random::<f64>())).await;
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
