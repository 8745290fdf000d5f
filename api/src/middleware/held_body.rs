//! The body of a response that holds what it needs until it is sent.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

/// A body that holds `H`. The connection drops it when all but at most its last 64 KiB are sent: it asks for the end of the
/// body only when its buffer has room.
pub(super) struct HeldBody<H> {
    body: Body,
    progress: Progress,
    _held: H,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    NotBegun,
    Begun,
    Ended,
}

impl<H: Send + Unpin + 'static> HeldBody<H> {
    pub(super) fn wrap(body: Body, held: H) -> Body {
        Body::new(Self { body, progress: Progress::NotBegun, _held: held })
    }
}

impl<H: Unpin> hyper::body::Body for HeldBody<H> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.progress = if frame.is_some() { Progress::Begun } else { Progress::Ended };
        Poll::Ready(frame)
    }

    /// A body that has begun tells its end only when it is asked for more, so that it is not dropped with its last frame.
    fn is_end_stream(&self) -> bool {
        match self.progress {
            Progress::NotBegun => self.body.is_end_stream(),
            Progress::Begun => false,
            Progress::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
