//! The log of events as open streams read it.
//!
//! One task a process reads what is new in the log, while any stream is open, and hands it to all of them. What lies
//! further back each stream reads itself, a page at a time, as fast as its caller takes it. Ids have no gaps, so a stream
//! knows by them alone whether it has missed anything.

mod reader;
mod stream;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use metrics::gauge;
use shop::events::Event;
use sqlx::PgPool;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::{load::Limits, metrics::STREAMS};

pub(crate) use stream::EventStream;

/// Events that wait for a stream whose caller does not keep up; one more, and it goes back to the table.
const BUFFERED_EVENTS: usize = 1024;
/// So many streams read the table at a time. They share the connections of the API's pool with all requests, and take
/// few of them, however many catch up.
const MAX_READERS: usize = 2;

/// Hands new events to all open streams. Cheap to clone.
#[derive(Clone)]
pub(crate) struct EventBroadcast(Arc<Inner>);

struct Inner {
    pool: PgPool,
    slots: Arc<Semaphore>,
    /// Who has a permit reads the table.
    readers: Arc<Semaphore>,
    /// A caller hears something at least so often.
    heartbeat_interval: Duration,
    /// And has to come again after this.
    max_age: Duration,
    /// A caller that fell behind what happens keeps up again after this.
    catch_up_timeout: Duration,
    stop: CancellationToken,
    live: broadcast::Sender<Arc<Event>>,
    /// The last event that was handed out; `None` until the reader knows where it begins.
    read_through: watch::Sender<Option<i64>>,
    /// Whether the reader runs.
    reading: Mutex<bool>,
}

/// The right to have a stream open.
pub(crate) struct StreamSlot(
    #[expect(dead_code, reason = "it is given back when this is dropped")] OwnedSemaphorePermit,
);

impl EventBroadcast {
    pub(crate) fn new(pool: PgPool, limits: &Limits, stop: CancellationToken) -> Self {
        Self(Arc::new(Inner {
            pool,
            slots: Arc::new(Semaphore::new(limits.event_streams)),
            readers: Arc::new(Semaphore::new(MAX_READERS)),
            heartbeat_interval: limits.heartbeat_interval,
            max_age: limits.max_stream_age,
            catch_up_timeout: limits.write_timeout,
            stop,
            live: broadcast::Sender::new(BUFFERED_EVENTS),
            read_through: watch::Sender::new(None),
            reading: Mutex::new(false),
        }))
    }

    /// Takes a place for a stream; `None` when there are as many as there may be.
    pub(crate) fn acquire_slot(&self) -> Option<StreamSlot> {
        let permit = self.0.slots.clone().try_acquire_owned().ok()?;
        gauge!(STREAMS).increment(1.0);
        Some(StreamSlot(permit))
    }

    /// From now on every event behind the reader's position is received.
    fn subscribe(&self) -> (broadcast::Receiver<Arc<Event>>, watch::Receiver<Option<i64>>) {
        let mut reading = self.0.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let live = self.0.live.subscribe();
        if !*reading {
            *reading = true;
            self.0.read_through.send_replace(None);
            tokio::spawn(reader::run(self.clone()));
        }
        (live, self.0.read_through.subscribe())
    }

    /// Whether nobody listens any more; then the reader has ended, and the next to subscribe begins another.
    fn has_no_subscribers(&self) -> bool {
        let mut reading = self.0.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let unused = self.0.live.receiver_count() == 0 || self.0.stop.is_cancelled();
        *reading = !unused;
        unused
    }
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        gauge!(STREAMS).decrement(1.0);
    }
}
