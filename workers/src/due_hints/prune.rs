//! Deletes what apalis-redis keeps of ids that are done, which it never does itself.

use std::time::Duration;

use apalis_redis::Config;
use redis::{AsyncCommands, aio::MultiplexedConnection};
use tokio_util::sync::CancellationToken;

use super::error::DueHintsError;

/// The pause between two rounds; also the time after which a silently lost Redis is noticed.
const INTERVAL: Duration = Duration::from_secs(1);
/// Ids deleted at a time, so that Redis is never blocked for long.
const BATCH_SIZE: usize = 500;

/// Prunes until a command fails, or `stop`.
pub(crate) async fn prune(
    connection: &MultiplexedConnection,
    config: &Config,
    stop: &CancellationToken,
) -> Result<(), DueHintsError> {
    let mut connection = connection.clone();
    loop {
        for set in [config.done_jobs_set(), config.dead_jobs_set()] {
            while prune_batch(&mut connection, config, &set).await? == BATCH_SIZE {}
        }
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// Deletes up to a batch of the ids in `set` and returns their number. Several processes share the work, since each id
/// leaves the set once.
async fn prune_batch(
    connection: &mut MultiplexedConnection,
    config: &Config,
    set: &str,
) -> Result<usize, DueHintsError> {
    let ids: Vec<String> = redis::cmd("SPOP").arg(set).arg(BATCH_SIZE).query_async(connection).await?;
    if ids.is_empty() {
        return Ok(0);
    }
    let metadata: Vec<String> = ids.iter().map(|id| format!("{}:{id}", config.job_meta_hash())).collect();
    let _: usize = connection.hdel(config.job_data_hash(), &ids).await?;
    let _: usize = connection.unlink(&metadata).await?;
    Ok(ids.len())
}
