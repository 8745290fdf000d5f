//! Claims received ids in PostgreSQL, which alone decides who gets them.

use std::time::Duration;

use engine::{Engine, SagaId};
use tokio::sync::mpsc;

use crate::{metrics::RedisQueueMetrics, queue::WorkedQueue};

/// Received ids that wait to be claimed; beyond, receiving waits.
pub(crate) const CAPACITY: usize = 1_000;
/// Ids claimed in one statement.
const BATCH: usize = 256;

/// While the queue's worker is full, this is how often is looked whether it still is.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(10);

/// Claims whatever comes, as many at a time as have come, until nobody sends any more. While the worker is full it
/// claims nothing, so ids wait in Redis where another process can take them.
pub(crate) async fn claim(
    engine: Engine,
    mut ids: mpsc::Receiver<SagaId>,
    worked: WorkedQueue,
    metrics: RedisQueueMetrics,
) {
    let mut batch = Vec::new();
    let mut failing = false;
    while ids.recv_many(&mut batch, BATCH).await > 0 {
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
                    tracing::warn!(%error, "ids from Redis can't be claimed; the poll finds them later");
                }
                failing = true;
            }
        }
        batch.clear();
    }
}
