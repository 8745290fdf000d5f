//! Claims sagas by the ids received from Redis.

use std::time::Duration;

use engine::{Engine, SagaId};
use tokio::sync::mpsc;

use crate::{metrics::RedisQueueMetrics, queue::WorkedQueue};

/// Received ids that may wait to be claimed; when they are as many, receiving waits.
pub(crate) const CAPACITY: usize = 1_000;
/// Ids claimed in one statement.
const BATCH_SIZE: usize = 256;
/// How often to check whether a full queue has room again.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(10);

/// Claims received ids, all that have arrived at a time, until every sender is dropped. While the queue is full it claims
/// nothing, so that ids wait in Redis, where another process can take them.
pub(crate) async fn claim(
    engine: Engine,
    mut ids: mpsc::Receiver<SagaId>,
    worked: WorkedQueue,
    metrics: RedisQueueMetrics,
) {
    let mut batch = Vec::new();
    let mut failing = false;
    while ids.recv_many(&mut batch, BATCH_SIZE).await > 0 {
        while worked.is_full() {
            tokio::time::sleep(FULL_QUEUE_PAUSE).await;
        }
        match engine.claim_ids(&batch).await {
            Ok(claimed) => {
                metrics.claimed.increment(claimed as u64);
                failing = false;
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(error = %engine::ErrorChain(&error), "ids from Redis can't be claimed; the poll finds them later");
                }
                failing = true;
            }
        }
        batch.clear();
    }
}
