//! The state that event streams share with the task that reads the event log.

use std::sync::Arc;

use parking_lot::Mutex;
use shop::events::Event;
use sqlx::PgPool;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

/// How many events are buffered for a slow stream. A stream that falls further behind reads the missed events from the
/// table.
pub(super) const BUFFERED_EVENTS: usize = 1024;

/// The channel from the reader to the streams.
pub(super) struct Channel {
    pub(super) pool: PgPool,
    pub(super) stop: CancellationToken,
    pub(super) live: broadcast::Sender<Arc<Event>>,
    /// The id of the last event that was sent; `None` until the reader knows where it begins.
    pub(super) last_sent: watch::Sender<Option<i64>>,
    has_reader: Mutex<bool>,
}

/// A stream's end of the channel.
pub(super) struct Subscription {
    pub(super) live: broadcast::Receiver<Arc<Event>>,
    pub(super) last_sent: watch::Receiver<Option<i64>>,
    /// Whether the subscriber has to start the reader.
    pub(super) needs_reader: bool,
}

impl Channel {
    pub(super) fn new(pool: PgPool, stop: CancellationToken) -> Self {
        Self {
            pool,
            stop,
            live: broadcast::Sender::new(BUFFERED_EVENTS),
            last_sent: watch::Sender::new(None),
            has_reader: Mutex::new(false),
        }
    }

    /// Subscribes: every event after the reader's position is received from now on.
    pub(super) fn subscribe(&self) -> Subscription {
        let mut has_reader = self.has_reader.lock();
        let live = self.live.subscribe();
        let needs_reader = !*has_reader;
        if needs_reader {
            *has_reader = true;
            self.last_sent.send_replace(None);
        }
        Subscription { live, last_sent: self.last_sent.subscribe(), needs_reader }
    }

    /// Whether the reader may end: no stream is left, or the process stops. Notes then that there is no reader, so that
    /// the next subscriber starts one.
    pub(super) fn reader_may_end(&self) -> bool {
        let mut has_reader = self.has_reader.lock();
        let may_end = self.live.receiver_count() == 0 || self.stop.is_cancelled();
        *has_reader = !may_end;
        may_end
    }
}
