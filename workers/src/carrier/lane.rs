//! One queue on Redis: what is pushed, received and cleaned up for it.

use std::time::Duration;

use apalis_redis::Config;
use engine::SagaId;
use redis::aio::MultiplexedConnection;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    CarrierError, RedisState,
    claims::WAITING,
    hints::{Hints, Offered},
    prune, push, receive,
};
use crate::{meter::LaneMeter, queue::WorkedQueue};

/// Ids fetched in one go.
const FETCH: usize = 100;
/// apalis counts a worker as gone after six of these, and re-queues the ids that it held.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// One queue that rides on Redis.
pub(crate) struct Lane {
    queue: String,
    config: Config,
    offered: Offered,
    /// Where received ids go; none when this process doesn't work on the queue.
    received: Option<mpsc::Sender<SagaId>>,
    /// The other end of it, until the claimer takes it.
    unclaimed: Option<(WorkedQueue, mpsc::Receiver<SagaId>)>,
    meter: LaneMeter,
}

impl Lane {
    /// Makes a lane, and the hints that fill it. It receives only if the queue is `worked` on here.
    pub(crate) fn new(
        queue: &str,
        prefix: &str,
        worked: Option<WorkedQueue>,
        state: watch::Receiver<RedisState>,
    ) -> (Self, Hints) {
        let config = Config::default()
            .queue(format!("{prefix}:{queue}"))
            .batch_size(FETCH)
            .heartbeat_interval(HEARTBEAT)
            .missed_heartbeats(6)
            // An id is worked on for no time at all, and a doubled one does no harm.
            .lock_tasks(false)
            // Nobody listens, and pushes are never announced anyway: apalis-redis counts every one as scheduled.
            .emit_events(false);
        let meter = LaneMeter::new(queue);
        let (received, unclaimed) = worked
            .map(|worked| {
                let (sender, receiver) = mpsc::channel(WAITING);
                (sender, (worked, receiver))
            })
            .unzip();
        let to_claims = received.as_ref().map(mpsc::Sender::downgrade);
        let (hints, offered) = Hints::bounded(to_claims, state, meter.clone());
        (Self { queue: queue.to_owned(), config, offered, received, unclaimed, meter }, hints)
    }

    /// Takes the end that gives received ids: once, and only of a lane that receives.
    pub(crate) fn take_unclaimed(&mut self) -> Option<(WorkedQueue, mpsc::Receiver<SagaId>)> {
        self.unclaimed.take()
    }

    pub(crate) fn meter(&self) -> &LaneMeter {
        &self.meter
    }

    /// Pushes, receives and cleans up until something fails or all is to stop.
    pub(crate) async fn carry(
        &mut self,
        connection: &MultiplexedConnection,
        stop_receiving: &CancellationToken,
        stop_pushing: &CancellationToken,
    ) -> Result<(), CarrierError> {
        let Self { queue, config, offered, received, unclaimed: _, meter } = self;
        tokio::try_join!(
            push::push(connection, config, offered, meter, stop_pushing),
            receive::receive(connection, config, queue, received.as_ref(), meter, stop_receiving),
            prune::prune(connection, config, stop_pushing),
        )
        .map(drop)
    }
}
