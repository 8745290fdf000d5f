//! The way out of a process that was told to stop, in the order that costs no caller anything: first it says that it is
//! not ready, then its streams end, then the server stops (see [`crate::serve()`]).

use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;

/// How far a process is on its way out.
#[derive(Debug, Default)]
pub(crate) struct Shutdown {
    draining: AtomicBool,
    streams: CancellationToken,
}

impl Shutdown {
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether nothing new should be sent here any more.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    pub(crate) fn close_streams(&self) {
        self.drain();
        self.streams.cancel();
    }

    /// Cancelled when answers without an end of their own have to end.
    pub(crate) fn streams(&self) -> &CancellationToken {
        &self.streams
    }
}
