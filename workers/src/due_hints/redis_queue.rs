//! One queue on Redis: what is pushed, received and cleaned up for it.

use std::time::Duration;

use apalis_redis::Config;
use engine::SagaId;
use redis::aio::MultiplexedConnection;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    DueHintsError, RedisState,
    claim::CAPACITY,
    hints::{HintReceiver, HintSender},
    prune, push, receive,
};
use crate::{metrics::RedisQueueMetrics, queue::WorkedQueue};

/// Ids fetched in one go.
const FETCH_SIZE: usize = 100;
/// apalis counts a worker as gone after six of these, and re-queues the ids that it held.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// One queue that rides on Redis.
pub(crate) struct RedisQueue {
    queue: String,
    config: Config,
    hint_receiver: HintReceiver,
    /// Where received ids go; none when this process doesn't work on the queue.
    received: Option<mpsc::Sender<SagaId>>,
    /// The other end of it, until the claimer takes it.
    received_ids: Option<(WorkedQueue, mpsc::Receiver<SagaId>)>,
    metrics: RedisQueueMetrics,
}

impl RedisQueue {
    /// Makes a queue, and the sender of the hints that fill it. It receives only if the queue is `worked` on here.
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
            // An id is worked on for no time at all, and a doubled one does no harm.
            .lock_tasks(false)
            // Nobody listens, and pushes are never announced anyway: apalis-redis counts every one as scheduled.
            .emit_events(false);
        let metrics = RedisQueueMetrics::new(queue);
        let (received, received_ids) = worked
            .map(|worked| {
                let (sender, receiver) = mpsc::channel(CAPACITY);
                (sender, (worked, receiver))
            })
            .unzip();
        let to_claims = received.as_ref().map(mpsc::Sender::downgrade);
        let (hints, hint_receiver) = HintSender::bounded(to_claims, state, metrics.clone());
        (Self { queue: queue.to_owned(), config, hint_receiver, received, received_ids, metrics }, hints)
    }

    /// Takes the end that gives received ids: once, and only of a queue that receives.
    pub(crate) fn take_received_ids(&mut self) -> Option<(WorkedQueue, mpsc::Receiver<SagaId>)> {
        self.received_ids.take()
    }

    pub(crate) fn metrics(&self) -> &RedisQueueMetrics {
        &self.metrics
    }

    /// Pushes, receives and cleans up until something fails or all is to stop.
    pub(crate) async fn run_session(
        &mut self,
        connection: &MultiplexedConnection,
        stop_receiving: &CancellationToken,
        stop_pushing: &CancellationToken,
    ) -> Result<(), DueHintsError> {
        let Self { queue, config, hint_receiver, received, received_ids: _, metrics } = self;
        tokio::try_join!(
            push::push(connection, config, hint_receiver, metrics, stop_pushing),
            receive::receive(connection, config, queue, received.as_ref(), metrics, stop_receiving),
            prune::prune(connection, config, stop_pushing),
        )
        .map(drop)
    }
}
