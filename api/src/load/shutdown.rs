//! The stages of a shutdown, in the order that fails no request: first the process reports that it is not ready, then
//! its streams end, then the server stops (see [`crate::serve()`]).

use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;

/// How far the shutdown of a process has come.
#[derive(Debug, Default)]
pub(crate) struct Shutdown {
    draining: AtomicBool,
    streams: CancellationToken,
}

impl Shutdown {
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether callers should send nothing new to this process.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    pub(crate) fn close_streams(&self) {
        self.drain();
        self.streams.cancel();
    }

    /// Cancelled when responses without an end of their own have to end.
    pub(crate) fn streams(&self) -> &CancellationToken {
        &self.streams
    }
}
