//! Receives ids through an apalis worker and forwards them to the claimer.

use std::time::Duration;

use apalis::prelude::WorkerBuilderExt;
use apalis_core::{
    backend::ext::BackendExt, error::BoxDynError, monitor::Monitor, worker::builder::WorkerBuilder,
};
use apalis_redis::{Config, RedisStorage};
use engine::SagaId;
use redis::{AsyncCommands, RedisError, aio::MultiplexedConnection};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::error::DueHintsError;
use crate::{metrics::RedisQueueMetrics, queue::worker_name};

/// How often an idle worker polls. By default it would poll only at its heartbeats.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long the metadata of a killed worker is kept.
const METADATA_TTL: Duration = Duration::from_mins(10);
/// Ids forwarded at the same time; they wait only while PostgreSQL is slow.
const FORWARD_CONCURRENCY: usize = 200;

/// Receives until something fails, or `stop`. Does nothing without `to_claims`.
///
/// The monitor restarts nothing: every error ends the session, and the next one begins with a new name, because
/// apalis-redis refuses a name that it has seen within the last half minute.
pub(crate) async fn receive(
    connection: &MultiplexedConnection,
    config: &Config,
    queue: &str,
    to_claims: Option<&mpsc::Sender<SagaId>>,
    metrics: &RedisQueueMetrics,
    stop: &CancellationToken,
) -> Result<(), DueHintsError> {
    let Some(to_claims) = to_claims else { return Ok(()) };
    let name = worker_name(queue);
    let worker = {
        let storage = RedisStorage::<Value, _>::new(connection.clone()).with_config(config.clone());
        let (name, to_claims, metrics) = (name.clone(), to_claims.clone(), metrics.clone());
        move |_restarts: usize| {
            let (to_claims, metrics) = (to_claims.clone(), metrics.clone());
            WorkerBuilder::new(name.clone())
                .backend(storage.clone().poll_with_interval(POLL_INTERVAL))
                .concurrency(FORWARD_CONCURRENCY)
                .build(move |id: Value| forward(id, to_claims.clone(), metrics.clone()))
        }
    };
    let monitor = Monitor::new().register(worker);
    let handle = monitor.context();
    let mut running = std::pin::pin!(monitor.run());
    let metadata = format!("{}:workers:metadata:{name}", config.queue);
    tokio::select! {
        ended = &mut running => return Err(ended.err().map_or(DueHintsError::Ended, DueHintsError::from)),
        failed = refresh_ttl(connection, &metadata) => return Err(failed.into()),
        () = stop.cancelled() => {}
    }
    handle.shutdown()?;
    running.await?;
    deregister(connection, config, &name, &metadata).await
}

/// Lets the worker's metadata in Redis expire after the process was killed; apalis-redis would keep them forever.
async fn refresh_ttl(connection: &MultiplexedConnection, metadata: &str) -> RedisError {
    let mut connection = connection.clone();
    // By then the worker has written it.
    let mut pause = Duration::from_secs(1);
    loop {
        tokio::time::sleep(pause).await;
        pause = METADATA_TTL / 10;
        if let Err(error) = connection.expire::<_, ()>(metadata, METADATA_TTL.as_secs().cast_signed()).await {
            return error;
        }
    }
}

/// Always returns success: the poll finds the saga of an id that could not be forwarded.
async fn forward(
    id: Value,
    to_claims: mpsc::Sender<SagaId>,
    metrics: RedisQueueMetrics,
) -> Result<(), BoxDynError> {
    metrics.received.increment(1);
    let Some(Ok(id)) = id.as_str().map(str::parse::<SagaId>) else {
        tracing::warn!(queue.payload = %id, "a payload from Redis is not the id of a saga");
        return Ok(());
    };
    if to_claims.send(id).await.is_err() {
        tracing::debug!(saga.id = %id, "an id came after the claimer had ended");
    }
    Ok(())
}

/// Removes the worker's name from Redis; apalis-redis itself removes the wrong key.
async fn deregister(
    connection: &MultiplexedConnection,
    config: &Config,
    name: &str,
    metadata: &str,
) -> Result<(), DueHintsError> {
    redis::pipe()
        .zrem(config.workers_set(), name)
        .ignore()
        .del(metadata)
        .ignore()
        .query_async::<()>(&mut connection.clone())
        .await?;
    Ok(())
}
