//! The broadcast of new events to all open streams, and the bounds of those streams.

use std::{sync::Arc, time::Duration};

use metrics::gauge;
use sqlx::PgPool;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::{
    channel::{Channel, Subscription},
    reader,
};
use crate::{load::Limits, metrics::STREAMS};

/// How many streams read the table at a time. They share the connections of the API's pool with all requests, and take
/// few of them, however many streams catch up.
const MAX_READERS: usize = 2;

/// Broadcasts new events to all open streams. Cheap to clone.
#[derive(Clone)]
pub(crate) struct EventBroadcast {
    pub(super) channel: Arc<Channel>,
    /// The permits to read the table.
    pub(super) readers: Arc<Semaphore>,
    slots: Arc<Semaphore>,
    /// A caller receives something at least this often.
    pub(super) heartbeat_interval: Duration,
    /// A stream ends after this time, and its caller connects again.
    pub(super) max_age: Duration,
    /// How long a caller that fell behind the newest events has to catch up.
    pub(super) catch_up_timeout: Duration,
}

/// The right to have a stream open.
pub(crate) struct StreamSlot(
    #[expect(dead_code, reason = "it is given back when this is dropped")] OwnedSemaphorePermit,
);

impl EventBroadcast {
    /// Creates a broadcast whose streams end when `stop` is cancelled.
    pub(crate) fn new(pool: PgPool, limits: &Limits, stop: CancellationToken) -> Self {
        Self {
            channel: Arc::new(Channel::new(pool, stop)),
            readers: Arc::new(Semaphore::new(MAX_READERS)),
            slots: Arc::new(Semaphore::new(limits.event_streams)),
            heartbeat_interval: limits.heartbeat_interval,
            max_age: limits.max_stream_age,
            catch_up_timeout: limits.write_timeout,
        }
    }

    /// Takes a slot for a stream; `None` when all are taken.
    pub(crate) fn acquire_slot(&self) -> Option<StreamSlot> {
        let permit = Arc::clone(&self.slots).try_acquire_owned().ok()?;
        gauge!(STREAMS).increment(1.0);
        Some(StreamSlot(permit))
    }

    /// Subscribes to new events, and starts the reader if none runs.
    pub(super) fn subscribe(&self) -> Subscription {
        let subscription = self.channel.subscribe();
        if subscription.needs_reader {
            tokio::spawn(reader::run(Arc::clone(&self.channel)));
        }
        subscription
    }
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        gauge!(STREAMS).decrement(1.0);
    }
}
