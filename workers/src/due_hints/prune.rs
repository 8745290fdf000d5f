//! Clears away what apalis-redis keeps of ids that are dealt with, which it never does itself.

use std::time::Duration;

use apalis_redis::Config;
use redis::{AsyncCommands, aio::MultiplexedConnection};
use tokio_util::sync::CancellationToken;

use super::DueHintsError;

/// How often; it is also how soon a Redis that went away silently is noticed.
const INTERVAL: Duration = Duration::from_secs(1);
/// Ids cleared in one go, so that Redis never stands still for it.
const BATCH: usize = 500;

/// Clears until a command fails, or `stop`.
pub(crate) async fn prune(
    connection: &MultiplexedConnection,
    config: &Config,
    stop: &CancellationToken,
) -> Result<(), DueHintsError> {
    let mut connection = connection.clone();
    loop {
        for set in [config.done_jobs_set(), config.dead_jobs_set()] {
            while prune_batch(&mut connection, config, &set).await? == BATCH {}
        }
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// Clears up to a batch of the ids in `set`; gives how many it were. Several processes share the work, since each id
/// leaves the set once.
async fn prune_batch(
    connection: &mut MultiplexedConnection,
    config: &Config,
    set: &str,
) -> Result<usize, DueHintsError> {
    let ids: Vec<String> = redis::cmd("SPOP").arg(set).arg(BATCH).query_async(connection).await?;
    if ids.is_empty() {
        return Ok(0);
    }
    let metadata: Vec<String> = ids.iter().map(|id| format!("{}:{id}", config.job_meta_hash())).collect();
    let _: usize = connection.hdel(config.job_data_hash(), &ids).await?;
    let _: usize = connection.unlink(&metadata).await?;
    Ok(ids.len())
}
