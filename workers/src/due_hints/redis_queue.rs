//! One queue whose due sagas are announced through Redis: its configuration there, and its two ends here.

use std::time::Duration;

use apalis_redis::Config;
use engine::SagaId;
use redis::aio::MultiplexedConnection;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    claim::CAPACITY,
    error::DueHintsError,
    health::RedisState,
    hints::{self, HintReceiver, HintSender},
    prune, push, receive,
};
use crate::{metrics::RedisQueueMetrics, queue::WorkedQueue};

/// Ids fetched at a time.
const FETCH_SIZE: usize = 100;
/// apalis regards a worker as dead after six of these, and re-queues the ids that it held.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// One queue whose due sagas are announced through Redis.
pub(crate) struct RedisQueue {
    queue: String,
    config: Config,
    hints: HintReceiver,
    /// Where received ids go; `None` when this process doesn't work on the queue.
    to_claims: Option<mpsc::Sender<SagaId>>,
    /// The receiving end of `to_claims`, until the claimer takes it.
    received_ids: Option<(WorkedQueue, mpsc::Receiver<SagaId>)>,
    metrics: RedisQueueMetrics,
}

impl RedisQueue {
    /// Creates the queue, and the sender of its due hints. It receives ids only if this process works on the queue.
    pub(crate) fn new(
        queue: &str,
        prefix: &str,
        worked: Option<WorkedQueue>,
        state: watch::Receiver<RedisState>,
    ) -> (Self, HintSender) {
        let config = Config::default()
            .queue(format!("{prefix}:{queue}"))
            .batch_size(FETCH_SIZE)
            .heartbeat_interval(HEARTBEAT)
            .missed_heartbeats(6)
            // Handling an id takes no time, and a duplicate does no harm.
            .lock_tasks(false)
            // Nothing subscribes, and pushes are never announced anyway: apalis-redis counts every one as scheduled.
            .emit_events(false);
        let metrics = RedisQueueMetrics::new(queue);
        let (to_claims, received_ids) = worked
            .map(|worked| {
                let (sender, receiver) = mpsc::channel(CAPACITY);
                (sender, (worked, receiver))
            })
            .unzip();
        let weak_to_claims = to_claims.as_ref().map(mpsc::Sender::downgrade);
        let (sender, hints) = hints::channel(weak_to_claims, state, metrics.clone());
        (Self { queue: queue.to_owned(), config, hints, to_claims, received_ids, metrics }, sender)
    }

    /// Takes the end that yields received ids: once, and only if this process works on the queue.
    pub(crate) fn take_received_ids(&mut self) -> Option<(WorkedQueue, mpsc::Receiver<SagaId>)> {
        self.received_ids.take()
    }

    pub(crate) fn metrics(&self) -> &RedisQueueMetrics {
        &self.metrics
    }

    /// Pushes, receives and prunes until something fails or `stop_pushing`.
    pub(crate) async fn run_session(
        &mut self,
        connection: &MultiplexedConnection,
        stop_receiving: &CancellationToken,
        stop_pushing: &CancellationToken,
    ) -> Result<(), DueHintsError> {
        let Self { queue, config, hints, to_claims, received_ids: _, metrics } = self;
        tokio::try_join!(
            push::push(connection, config, hints, metrics, stop_pushing),
            receive::receive(connection, config, queue, to_claims.as_ref(), metrics, stop_receiving),
            prune::prune(connection, config, stop_pushing),
        )
        .map(drop)
    }
}
