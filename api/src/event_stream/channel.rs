//! The state that the reader of the log and the streams share.

use std::sync::Arc;

use parking_lot::Mutex;
use shop::events::Event;
use sqlx::PgPool;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

/// How many events wait for a stream whose caller does not keep up; with one more, the stream reads the table again.
pub(super) const BUFFERED_EVENTS: usize = 1024;

/// The channel from the reader to the streams.
pub(super) struct Channel {
    pub(super) pool: PgPool,
    pub(super) stop: CancellationToken,
    pub(super) live: broadcast::Sender<Arc<Event>>,
    /// The last event that was sent; `None` until the reader knows where it begins.
    pub(super) read_through: watch::Sender<Option<i64>>,
    is_read: Mutex<bool>,
}

/// A stream's end of the channel.
pub(super) struct Subscription {
    pub(super) live: broadcast::Receiver<Arc<Event>>,
    pub(super) read_through: watch::Receiver<Option<i64>>,
    /// Whether the subscriber has to start the reader.
    pub(super) needs_reader: bool,
}

impl Channel {
    pub(super) fn new(pool: PgPool, stop: CancellationToken) -> Self {
        Self {
            pool,
            stop,
            live: broadcast::Sender::new(BUFFERED_EVENTS),
            read_through: watch::Sender::new(None),
            is_read: Mutex::new(false),
        }
    }

    /// Subscribes: every event after the reader's position is received from now on.
    pub(super) fn subscribe(&self) -> Subscription {
        let mut is_read = self.is_read.lock();
        let live = self.live.subscribe();
        let needs_reader = !*is_read;
        if needs_reader {
            *is_read = true;
            self.read_through.send_replace(None);
        }
        Subscription { live, read_through: self.read_through.subscribe(), needs_reader }
    }

    /// Whether no stream is left, or the process stops. The reader ends then, and the next subscriber starts another.
    pub(super) fn has_no_subscribers(&self) -> bool {
        let mut is_read = self.is_read.lock();
        let is_unused = self.live.receiver_count() == 0 || self.stop.is_cancelled();
        *is_read = !is_unused;
        is_unused
    }
}
