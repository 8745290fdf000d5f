//! The feed of a queue: claims due sagas in batches, as many as it has free slots for, and hands them to workers one by
//! one.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use tokio::sync::mpsc;

use crate::{
    runtime::{claim::claim_loop, core::Core, job::Job, lease_updates, queue::feeds::QueueState},
    support::supervise::supervised,
};

/// The jobs of one queue, for one worker or a group of workers. A process has at most one feed for each queue.
///
/// Dropping a feed closes it.
pub struct Feed {
    jobs: mpsc::UnboundedReceiver<Job>,
    state: Arc<QueueState>,
    core: Arc<Core>,
}

impl Feed {
    /// Opens the feed of a queue and starts claiming. At most `capacity` jobs are handed out and not yet committed.
    pub(crate) fn open(core: Arc<Core>, queue: &str, capacity: usize) -> Self {
        let (state, jobs) = QueueState::new(queue, capacity);
        core.feeds.register(state.clone());
        let claiming = {
            let (core, state) = (core.clone(), state.clone());
            async move {
                let _claimed_last = state.claimed_last.clone().drop_guard();
                let stop = core.stop.clone();
                supervised("claiming", &stop, || claim_loop::claim_while_open(core.clone(), state.clone()))
                    .await;
            }
        };
        core.tasks.spawn(claiming);
        Self { jobs, state, core }
    }

    /// The queue's name.
    pub fn queue(&self) -> &str {
        self.state.queue()
    }

    /// Waits for a job; `None` once the feed is closed and empty.
    ///
    /// # Cancel safety
    /// No job is lost when the future is dropped.
    pub async fn recv(&mut self) -> Option<Job> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// As [`Feed::recv`], for hand-written futures.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Job>> {
        if !self.state.is_open() {
            return Poll::Ready(None);
        }
        self.jobs.poll_recv(cx)
    }

    /// Stops claiming and releases at once what was claimed but not handed out. Jobs that were handed out continue;
    /// their sagas are released when they are committed.
    pub fn close(&mut self) {
        self.state.close();
        self.core.feeds.refresh_open();
        self.state.slots.close();
        self.state.signals.wake.notify_one();
        self.jobs.close();
        let mut left = Vec::new();
        while let Ok(job) = self.jobs.try_recv() {
            left.push(job);
        }
        lease_updates::release_unstarted(&self.core, left);
    }

    /// Waits until the last claim has returned and every claim that [`Feed::close`] released is free in the database,
    /// but for sagas that another transaction has locked: these are free soon after it ends.
    pub async fn closed(&self) {
        self.state.claimed_last.cancelled().await;
        lease_updates::flush_releases(&self.core).await;
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.close();
    }
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").field("queue", &self.state.queue()).finish_non_exhaustive()
    }
}
