//! Pushes the ids of due sagas to Redis, never more than its scripts can take.

use apalis_core::backend::TaskSink;
use apalis_redis::{Config, RedisStorage};
use engine::SagaId;
use redis::aio::MultiplexedConnection;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{error::DueHintsError, hints::HintReceiver};
use crate::metrics::RedisQueueMetrics;

/// The most ids that wait in Redis. apalis-redis 1.0 passes all that are due to one Lua call, which fails for good from
/// some 8,000 on; several processes may each push a batch after they have read the depth.
const MAX_QUEUED: usize = 2_000;

/// Pushes batch after batch until a push fails, or `stop`; then once more the ids that still wait.
pub(crate) async fn push(
    connection: &MultiplexedConnection,
    config: &Config,
    hints: &mut HintReceiver,
    metrics: &RedisQueueMetrics,
    stop: &CancellationToken,
) -> Result<(), DueHintsError> {
    loop {
        let batch = tokio::select! {
            batch = hints.recv_batch() => batch,
            () = stop.cancelled() => return push_batch(connection, config, hints.drain_batch(), metrics).await,
        };
        if batch.is_empty() {
            // The engine is dropped, so no more ids will come. Waiting here keeps the session open for receiving.
            stop.cancelled().await;
            return Ok(());
        }
        push_batch(connection, config, batch, metrics).await?;
    }
}

/// Pushes one batch, or drops it when enough ids wait already.
async fn push_batch(
    connection: &MultiplexedConnection,
    config: &Config,
    batch: Vec<SagaId>,
    metrics: &RedisQueueMetrics,
) -> Result<(), DueHintsError> {
    if batch.is_empty() {
        return Ok(());
    }
    let count = batch.len();
    if depth(connection, config).await? + count > MAX_QUEUED {
        metrics.dropped.increment(count as u64);
        return Ok(());
    }
    let mut storage = RedisStorage::<Value, _>::new(connection.clone()).with_config(config.clone());
    let ids = batch.into_iter().map(|id| Value::String(id.to_string())).collect();
    storage.push_bulk(ids).await.map_err(|error| DueHintsError::Push(error.into()))?;
    metrics.pushed.increment(count as u64);
    Ok(())
}

/// The number of ids that wait in Redis.
async fn depth(connection: &MultiplexedConnection, config: &Config) -> Result<usize, DueHintsError> {
    let (active, scheduled): (usize, usize) = redis::pipe()
        .llen(config.active_jobs_list())
        .zcard(config.scheduled_jobs_set())
        .query_async(&mut connection.clone())
        .await?;
    Ok(active + scheduled)
}
