//! The queues that this process works on, and the channels to their feeds.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    model::ids::SagaId,
    runtime::{
        job::Job,
        queue::{
            pauses::PauseCache,
            scan_window::ScanWindow,
            throttle::{Allowance, LocalQueues, OpenQueues, Throttles},
        },
        slots::{JobSlots, QueueSignals},
    },
};

/// A hook that gets the ids of sagas that became due in a queue, after the commit.
pub type DueHook = Arc<dyn Fn(Vec<SagaId>) + Send + Sync>;

/// How many sagas wait at most to be claimed by id.
const MAX_NAMED: usize = 10_000;

/// All feeds of this process.
#[derive(Default)]
pub(crate) struct Feeds {
    by_queue: RwLock<HashMap<Arc<str>, Arc<QueueState>>>,
    open: RwLock<OpenQueues>,
    hooks: RwLock<HashMap<String, DueHook>>,
    /// Cancelled when the first feed opens.
    pub(crate) in_use: CancellationToken,
    /// Notified when a feed was opened or closed.
    pub(crate) changed: Notify,
    pub(crate) pauses: PauseCache,
    pub(crate) throttles: Throttles,
}

/// The state of a queue that this process works on.
pub(crate) struct QueueState {
    pub(crate) signals: Arc<QueueSignals>,
    sender: mpsc::UnboundedSender<Job>,
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) capacity: usize,
    /// One permit: a single saga on probation (its holder vanished twice or more in a row) runs at a time.
    pub(crate) probation: Arc<Semaphore>,
    /// One permit: the single saga that a throttle admits as a probe.
    pub(crate) probe: Arc<Semaphore>,
    next_due: Mutex<Option<Instant>>,
    /// How far claims of due sagas look back.
    pub(crate) due_window: ScanWindow,
    /// How far claims of sagas whose lease ended look back.
    pub(crate) lapsed_window: ScanWindow,
    next_lapsed: Mutex<Instant>,
    /// Sagas to be claimed by id, before any other.
    named: Mutex<VecDeque<Uuid>>,
    open: AtomicBool,
    /// Cancelled after the last claim.
    pub(crate) claimed_last: CancellationToken,
}

impl Feeds {
    pub(crate) fn open_queues(&self) -> OpenQueues {
        self.open.read().clone()
    }

    /// The names of the queues that this process works on now.
    pub(crate) fn open_queue_names(&self) -> Vec<String> {
        self.open_queues().iter().map(ToString::to_string).collect()
    }

    /// The queues whose sagas this process may continue with at this moment.
    pub(crate) fn local_queues(&self) -> LocalQueues {
        LocalQueues { open: self.open_queues(), throttled: self.throttles.throttled() }
    }

    /// Takes a slot for one saga of the queue in this process. `None` when the feed is full or closed, the queue is
    /// paused or throttled, or a hook passes its sagas on to other processes.
    pub(crate) fn slot(&self, queue: &str) -> Option<JobSlots> {
        let is_throttled = || self.throttles.allowance(queue) != Allowance::Unlimited;
        if self.hook(queue).is_some() || !self.pauses.may_claim(queue) || is_throttled() {
            return None;
        }
        let feed = self.feed(queue)?;
        let slot = feed.slots.clone().try_acquire_owned().ok()?;
        Some(JobSlots { slot: Some(slot), ..JobSlots::default() })
    }

    /// Dispatches a claimed job to its feed; returns the job if no feed accepts it.
    pub(crate) fn dispatch(&self, job: Job) -> Option<Job> {
        match self.feed(&job.queue) {
            Some(feed) => feed.hand_out(job),
            None => Some(job),
        }
    }

    /// Passes the ids of sagas that became due to the hook of their queue, or wakes its claim loop.
    pub(crate) fn notify_due(&self, queue: &str, ids: Vec<SagaId>) {
        if let Some(hook) = self.hook(queue) {
            hook(ids);
        } else {
            self.wake(queue);
        }
    }

    /// Wakes the claim loop of a queue.
    pub(crate) fn wake(&self, queue: &str) {
        if let Some(feed) = self.feed(queue) {
            feed.signals.wake.notify_one();
        }
    }

    pub(crate) fn wake_all(&self) {
        for feed in self.by_queue.read().values() {
            feed.signals.wake.notify_one();
        }
    }

    /// Wakes the claim loop of a queue after `delay`.
    pub(crate) fn wake_after(&self, queue: &str, delay: Duration) {
        if let Some(feed) = self.feed(queue) {
            // Slightly late rather than early, because the database's clock decides what is due.
            let due = Instant::now() + delay + Duration::from_millis(2);
            let mut next = feed.next_due.lock();
            if next.is_none_or(|next| due < next) {
                *next = Some(due);
                drop(next);
                feed.signals.wake.notify_one();
            }
        }
    }

    pub(crate) fn set_due_hook(&self, queue: &str, hook: DueHook) {
        self.hooks.write().insert(queue.into(), hook);
    }

    fn hook(&self, queue: &str) -> Option<DueHook> {
        self.hooks.read().get(queue).cloned()
    }

    /// The open feed of a queue.
    pub(crate) fn feed(&self, queue: &str) -> Option<Arc<QueueState>> {
        let feeds = self.by_queue.read();
        feeds.get(queue).filter(|feed| feed.is_open()).cloned()
    }

    pub(crate) fn register(&self, state: Arc<QueueState>) {
        self.by_queue.write().insert(state.signals.queue.clone(), state);
        self.refresh_open();
        self.in_use.cancel();
    }

    pub(crate) fn refresh_open(&self) {
        let feeds = self.by_queue.read();
        let open = feeds.values().filter(|feed| feed.is_open()).map(|feed| feed.signals.queue.clone());
        *self.open.write() = Arc::new(open.collect());
        self.changed.notify_one();
    }

    /// How many sagas this process holds at most on its queues, also on those that it leaves.
    pub(crate) fn capacity(&self) -> usize {
        self.by_queue.read().values().map(|feed| feed.capacity).sum()
    }

    /// Whether this process worked on queues and does not any more.
    pub(crate) fn is_draining(&self) -> bool {
        !self.by_queue.read().is_empty() && self.open_queues().is_empty()
    }
}

impl QueueState {
    /// Creates the state of a queue, and the channel on which its feed receives jobs. At most `capacity` jobs are
    /// handed out and not yet committed.
    pub(crate) fn new(queue: &str, capacity: usize) -> (Arc<Self>, mpsc::UnboundedReceiver<Job>) {
        let (sender, jobs) = mpsc::unbounded_channel();
        let state = Arc::new(Self {
            signals: Arc::new(QueueSignals::new(queue)),
            sender,
            slots: Arc::new(Semaphore::new(capacity)),
            capacity,
            probation: Arc::new(Semaphore::new(1)),
            probe: Arc::new(Semaphore::new(1)),
            next_due: Mutex::default(),
            due_window: ScanWindow::default(),
            lapsed_window: ScanWindow::default(),
            next_lapsed: Mutex::new(Instant::now()),
            named: Mutex::default(),
            open: AtomicBool::new(true),
            claimed_last: CancellationToken::new(),
        });
        (state, jobs)
    }

    /// The queue's name.
    pub(crate) fn queue(&self) -> &str {
        &self.signals.queue
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Stops claiming. The caller has to call [`Feeds::refresh_open`] afterwards.
    pub(crate) fn close(&self) {
        self.open.store(false, Ordering::Release);
    }

    /// Sends a job to the feed; returns it if the feed is closed.
    pub(crate) fn hand_out(&self, job: Job) -> Option<Job> {
        self.sender.send(job).err().map(|rejected| rejected.0)
    }

    /// Whether it is time to claim a saga on probation; if so, the next time is one poll later.
    pub(crate) fn probation_is_due(&self, poll: Duration) -> bool {
        is_due(&self.signals.next_probation, poll)
    }

    /// Whether it is time to look for sagas whose lease ended; if so, the next time is one poll later.
    pub(crate) fn lapsed_is_due(&self, poll: Duration) -> bool {
        is_due(&self.next_lapsed, poll)
    }

    /// Has these sagas claimed by id, before any other. Of too many, the rest is dropped: the sweep finds it again.
    pub(crate) fn name_sagas(&self, ids: impl IntoIterator<Item = Uuid>) {
        let mut named = self.named.lock();
        let room = MAX_NAMED.saturating_sub(named.len());
        named.extend(ids.into_iter().take(room));
        drop(named);
        self.signals.wake.notify_one();
    }

    /// Takes the next sagas that are to be claimed by id, at most `limit`.
    pub(crate) fn take_named(&self, limit: usize) -> Vec<Uuid> {
        let mut named = self.named.lock();
        let count = limit.min(named.len());
        named.drain(..count).collect()
    }

    pub(crate) fn has_named(&self) -> bool {
        !self.named.lock().is_empty()
    }

    pub(crate) fn pause(&self, poll: Duration) -> Duration {
        let next = *self.next_due.lock();
        next.map_or(poll, |due| poll.min(due.saturating_duration_since(Instant::now())))
    }

    /// Clears a due time that the current poll covers.
    pub(crate) fn forget_due(&self) {
        let mut next = self.next_due.lock();
        if next.is_some_and(|due| due <= Instant::now()) {
            *next = None;
        }
    }
}

/// Whether the time has come; if so, the next is `interval` later.
fn is_due(next: &Mutex<Instant>, interval: Duration) -> bool {
    let now = Instant::now();
    let mut next = next.lock();
    let due = *next <= now;
    if due {
        *next = now + interval;
    }
    due
}
