//! The engine's claims as an apalis backend.
//!
//! The engine claims in the background and fills a bounded feed; polling the backend receives from that feed. An error
//! would make apalis end the worker and cancel its tasks, so this backend returns none: while the database is
//! unreachable, the feed is empty.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use apalis_core::{
    backend::{Backend, BackendConfig, finalize::Ephemeral},
    task::{Task, builder::TaskBuilder, task_id::TaskId},
    worker::context::WorkerContext,
};
use engine::{Feed, Job};
use futures::{future::BoxFuture, ready};
use parking_lot::Mutex;

use super::{commit::CommitLayer, options::QueueOptions};

/// Hands the jobs of one queue to an apalis worker.
///
/// Created by [`crate::Workers`]; public so that the layers of a worker outside this crate can name it.
pub struct EngineBackend {
    feed: SharedFeed,
    options: QueueOptions,
    layer: CommitLayer,
    closing: Option<BoxFuture<'static, ()>>,
}

impl EngineBackend {
    pub(crate) fn new(feed: SharedFeed, options: QueueOptions, layer: CommitLayer) -> Self {
        Self { feed, options, layer, closing: None }
    }
}

impl std::fmt::Debug for EngineBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineBackend").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Backend for EngineBackend {
    type Task = Task<Job>;
    type Error = Infallible;

    fn poll_ready(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Option<Result<Self::Task, Infallible>>> {
        let job = ready!(self.feed.poll_recv(cx));
        Poll::Ready(job.map(|job| {
            let id = TaskId::from_string(job.task_id());
            Ok(TaskBuilder::new(job).task_id(id).build())
        }))
    }

    /// Releases the jobs that were claimed and not handed out, and resolves when that is done.
    fn poll_close(&mut self, cx: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        let feed = &self.feed;
        let closing = self.closing.get_or_insert_with(|| Box::pin(feed.clone().release()));
        ready!(closing.as_mut().poll(cx));
        // A future that has finished must not be polled again, should apalis ask once more.
        self.closing = Some(Box::pin(std::future::ready(())));
        Poll::Ready(Ok(()))
    }
}

impl BackendConfig for EngineBackend {
    type Args = Job;
    type Id = String;
    type Kind = Ephemeral;
    type Config = QueueOptions;
    type Layer = CommitLayer;

    fn config(&self) -> &QueueOptions {
        &self.options
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> CommitLayer {
        self.layer.clone()
    }
}

/// One queue's feed, shared by the backend that receives from it and the task that stops it. A worker that apalis
/// restarts goes on with the same feed, so that no claimed job is stranded.
#[derive(Clone)]
pub(crate) struct SharedFeed(Arc<Mutex<Option<Feed>>>);

impl SharedFeed {
    pub(crate) fn new(feed: Feed) -> Self {
        Self(Arc::new(Mutex::new(Some(feed))))
    }

    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Option<Job>> {
        self.0.lock().as_mut().map_or(Poll::Ready(None), |feed| feed.poll_recv(cx))
    }

    /// Stops claiming at once; jobs in flight go on.
    pub(crate) fn close(&self) {
        if let Some(feed) = self.0.lock().as_mut() {
            feed.close();
        }
    }

    /// Stops claiming and waits until the jobs that were not handed out are released. Does nothing the second time.
    pub(crate) async fn release(self) {
        let taken = self.0.lock().take();
        if let Some(mut feed) = taken {
            feed.close();
            feed.closed().await;
        }
    }
}
