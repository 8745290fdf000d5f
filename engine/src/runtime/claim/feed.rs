//! Feeds workers: claims due sagas of a queue in batches, as many as it has free slots for, and hands them out one by one.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::runtime::claim::claim_loop;
use crate::{
    engine::Core,
    model::{ids::SagaId, status::Direction},
    operate::queues::PauseCache,
    runtime::{
        job::{Job, JobSlots},
        queue::throttle::{Allowance, LocalQueues, Throttles},
    },
    store::claims::ReleaseRow,
    support::connection,
};

/// The queues that this process works on now.
pub(crate) type OpenQueues = Arc<HashSet<Arc<str>>>;
/// Is told of sagas that became due in a queue, after the commit.
pub type DueHook = Arc<dyn Fn(Vec<SagaId>) + Send + Sync>;

/// All feeds of this process.
#[derive(Default)]
pub(crate) struct Feeds {
    by_queue: RwLock<HashMap<Arc<str>, Arc<QueueState>>>,
    open: RwLock<OpenQueues>,
    hooks: RwLock<HashMap<String, DueHook>>,
    pub(crate) pauses: PauseCache,
    pub(crate) throttles: Throttles,
}

pub(super) struct QueueState {
    pub(super) queue: Arc<str>,
    sender: mpsc::UnboundedSender<Job>,
    pub(super) slots: Arc<Semaphore>,
    pub(super) capacity: usize,
    /// Sagas whose holder vanished again and again run one at a time, in a slot of their own.
    pub(super) probation: Arc<Semaphore>,
    /// When sagas on probation are looked for again.
    pub(super) next_probation: Mutex<Instant>,
    pub(super) probation_ended: Notify,
    /// While the throttle lets one saga through, that one has this place.
    pub(super) probe: Arc<Semaphore>,
    pub(super) wake: Notify,
    next_due: Mutex<Option<Instant>>,
    pub(super) open: AtomicBool,
    /// Cancelled when nothing is claimed any more.
    claimed_last: CancellationToken,
}

impl Feeds {
    pub(crate) fn open_queues(&self) -> OpenQueues {
        self.open.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Which sagas may stay in this process, at this moment.
    pub(crate) fn local_queues(&self) -> LocalQueues {
        LocalQueues { open: self.open_queues(), throttled: self.throttles.throttled() }
    }

    /// Room for one saga of the queue in this process; `None` when it is full, closed, paused, throttled, or carried by
    /// a hook.
    pub(crate) fn slot(&self, queue: &str) -> Option<JobSlots> {
        let is_throttled = || self.throttles.allowance(queue) != Allowance::Unlimited;
        if self.hook(queue).is_some() || !self.pauses.may_claim(queue) || is_throttled() {
            return None;
        }
        let feed = self.feed(queue)?;
        let slot = feed.slots.clone().try_acquire_owned().ok()?;
        Some(JobSlots { slot: Some(slot), ..JobSlots::default() })
    }

    /// Hands out a job whose claim this process holds.
    pub(crate) fn dispatch(&self, core: &Core, job: Job) {
        let rejected = match self.feed(&job.queue) {
            Some(feed) => feed.sender.send(job).err().map(|error| error.0),
            None => Some(job),
        };
        if let Some(job) = rejected {
            core.release_unstarted([job]);
        }
    }

    /// Tells that sagas of a queue became due.
    pub(crate) fn notify_due(&self, queue: &str, ids: Vec<SagaId>) {
        if let Some(hook) = self.hook(queue) {
            hook(ids);
        } else {
            self.wake(queue);
        }
    }

    /// Wakes the claims of a queue.
    pub(crate) fn wake(&self, queue: &str) {
        if let Some(feed) = self.feed(queue) {
            feed.wake.notify_one();
        }
    }

    pub(crate) fn wake_all(&self) {
        for feed in self.by_queue.read().unwrap_or_else(PoisonError::into_inner).values() {
            feed.wake.notify_one();
        }
    }

    /// Has the claims of a queue look again after `delay`.
    pub(crate) fn wake_after(&self, queue: &str, delay: Duration) {
        if let Some(feed) = self.feed(queue) {
            // A little late rather than a little early: the database's clock decides.
            let due = Instant::now() + delay + Duration::from_millis(2);
            let mut next = feed.next_due.lock().unwrap_or_else(PoisonError::into_inner);
            if next.is_none_or(|next| due < next) {
                *next = Some(due);
                drop(next);
                feed.wake.notify_one();
            }
        }
    }

    pub(crate) fn set_due_hook(&self, queue: &str, hook: DueHook) {
        self.hooks.write().unwrap_or_else(PoisonError::into_inner).insert(queue.into(), hook);
    }

    fn hook(&self, queue: &str) -> Option<DueHook> {
        self.hooks.read().unwrap_or_else(PoisonError::into_inner).get(queue).cloned()
    }

    fn feed(&self, queue: &str) -> Option<Arc<QueueState>> {
        let feeds = self.by_queue.read().unwrap_or_else(PoisonError::into_inner);
        feeds.get(queue).filter(|feed| feed.open.load(Ordering::Acquire)).cloned()
    }

    fn register(&self, shared: Arc<QueueState>) {
        self.by_queue.write().unwrap_or_else(PoisonError::into_inner).insert(shared.queue.clone(), shared);
        self.refresh_open();
    }

    fn refresh_open(&self) {
        let feeds = self.by_queue.read().unwrap_or_else(PoisonError::into_inner);
        let open =
            feeds.values().filter(|feed| feed.open.load(Ordering::Acquire)).map(|feed| feed.queue.clone());
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(open.collect());
    }
}

/// The jobs of one queue, for one worker or one set of workers. A process has one feed a queue.
///
/// Dropping a feed closes it.
pub struct Feed {
    jobs: mpsc::UnboundedReceiver<Job>,
    shared: Arc<QueueState>,
    core: Arc<Core>,
}

impl Feed {
    /// Opens the feed of a queue and begins to claim; at most `capacity` jobs are handed out and not yet committed.
    pub(crate) fn open(core: Arc<Core>, queue: &str, capacity: usize) -> Self {
        let (sender, jobs) = mpsc::unbounded_channel();
        let shared = Arc::new(QueueState {
            queue: queue.into(),
            sender,
            slots: Arc::new(Semaphore::new(capacity)),
            capacity,
            probation: Arc::new(Semaphore::new(1)),
            next_probation: Mutex::new(Instant::now()),
            probation_ended: Notify::new(),
            probe: Arc::new(Semaphore::new(1)),
            wake: Notify::new(),
            next_due: Mutex::default(),
            open: AtomicBool::new(true),
            claimed_last: CancellationToken::new(),
        });
        core.feeds.register(shared.clone());
        let claiming = {
            let (core, shared) = (core.clone(), shared.clone());
            async move {
                let _claimed_last = shared.claimed_last.clone().drop_guard();
                let stop = core.stop.clone();
                connection::supervised("claiming", &stop, || {
                    claim_loop::claim_while_open(core.clone(), shared.clone())
                })
                .await;
            }
        };
        core.tasks.spawn(claiming);
        Self { jobs, shared, core }
    }

    /// The queue's name.
    pub fn queue(&self) -> &str {
        &self.shared.queue
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
        if !self.shared.open.load(Ordering::Acquire) {
            return Poll::Ready(None);
        }
        self.jobs.poll_recv(cx)
    }

    /// Stops claiming and gives back at once what was claimed and not handed out. Jobs already handed out go on; their
    /// sagas are released as they are committed.
    pub fn close(&mut self) {
        self.shared.open.store(false, Ordering::Release);
        self.core.feeds.refresh_open();
        self.shared.slots.close();
        self.shared.wake.notify_one();
        self.jobs.close();
        let mut left = Vec::new();
        while let Ok(job) = self.jobs.try_recv() {
            left.push(job);
        }
        self.core.release_unstarted(left);
    }

    /// Waits until the last claim has come back and everything that [`Feed::close`] gave back is free in the database.
    pub async fn closed(&self) {
        self.shared.claimed_last.cancelled().await;
        self.core.flush_releases().await;
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.close();
    }
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").field("queue", &self.shared.queue).finish_non_exhaustive()
    }
}

impl QueueState {
    pub(super) fn hand_out(&self, core: &Core, job: Job) {
        if let Err(rejected) = self.sender.send(job) {
            core.release_unstarted([rejected.0]);
        }
    }

    /// Whether it is time to look for sagas on probation; if so, the next look is a poll away.
    pub(super) fn probation_is_due(&self, poll: Duration) -> bool {
        let now = Instant::now();
        let mut next = self.next_probation.lock().unwrap_or_else(PoisonError::into_inner);
        let due = *next <= now;
        if due {
            *next = now + poll;
        }
        due
    }

    pub(super) fn pause(&self, poll: Duration) -> Duration {
        let next = *self.next_due.lock().unwrap_or_else(PoisonError::into_inner);
        next.map_or(poll, |due| poll.min(due.saturating_duration_since(Instant::now())))
    }

    /// Drops a due time that this round looks at.
    pub(super) fn forget_due(&self) {
        let mut next = self.next_due.lock().unwrap_or_else(PoisonError::into_inner);
        if next.is_some_and(|due| due <= Instant::now()) {
            *next = None;
        }
    }
}

/// A claim to be given back that was not begun.
pub(crate) fn unbegun(job: &Job) -> ReleaseRow {
    ReleaseRow {
        id: job.saga_id.0,
        epoch: job.epoch,
        attempt: i32::try_from(job.state.attempt.saturating_sub(1)).unwrap_or(i32::MAX),
        history_seq: job.history_seq,
        in_doubt: job.state.in_doubt,
        called: false,
        delay_ms: 0,
        error: None,
    }
}

/// A claim to be given back that was begun, in vain: the attempt stays counted.
pub(crate) fn begun(job: &Job) -> ReleaseRow {
    ReleaseRow { attempt: i32::try_from(job.state.attempt).unwrap_or(i32::MAX), ..unbegun(job) }
}

/// A claim to be given back whose call was begun, and whose answer is not known: the attempt stays counted.
pub(crate) fn abandoned(job: &Job) -> ReleaseRow {
    let row = begun(job);
    ReleaseRow { in_doubt: row.in_doubt || job.direction() == Direction::Action, called: true, ..row }
}
