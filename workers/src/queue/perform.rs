//! The innermost service, which lets the engine perform a job.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use apalis_core::task::Task;
use engine::{Engine, Job, Performed};
use futures::future::BoxFuture;
use tower::Service;

/// Performs a job and returns it with its result, ready to be committed. The job moves through the service, because it
/// holds its slot in the feed and so can't be copied.
#[derive(Clone)]
pub(crate) struct Perform {
    engine: Engine,
}

impl Perform {
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

impl Service<Task<Job>> for Perform {
    type Response = (Job, Performed);
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<(Job, Performed), Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, task: Task<Job>) -> Self::Future {
        let engine = self.engine.clone();
        Box::pin(async move {
            let guard = JobGuard { engine, job: Some(task.args) };
            let performed = guard.engine.perform(guard.job()).await;
            Ok((guard.finish(), performed))
        })
    }
}

/// A job in progress. Dropped before its end, by the shutdown deadline or a panic, it abandons the job at once rather
/// than when its lease lapses.
struct JobGuard {
    engine: Engine,
    job: Option<Job>,
}

impl JobGuard {
    const PRESENT: &str = "only `finish` and `drop` take the job, and both end the guard";

    fn job(&self) -> &Job {
        self.job.as_ref().expect(Self::PRESENT)
    }

    fn finish(mut self) -> Job {
        self.job.take().expect(Self::PRESENT)
    }
}

impl Drop for JobGuard {
    fn drop(&mut self) {
        if let Some(job) = self.job.take() {
            self.engine.abandon(job);
        }
    }
}
