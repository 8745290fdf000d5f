//! The process's workers: all its queues, and the queue's Redis if there is one.

use std::time::Duration;

use breakers::{Breaker, BreakerSettings, Dependency};
use engine::Engine;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    due_hints::{DueHints, RedisHealth, RedisOptions},
    metrics,
    queue::{self, QueueOptions, WorkedQueue},
};

/// How long Redis may take to be told goodbye; it holds nothing that would be missed.
const DUE_HINTS_STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Keeps the sagas of some queues moving.
///
/// ```no_run
/// # async fn example(engine: engine::Engine) -> Result<(), workers::WorkersError> {
/// use std::time::Duration;
/// use tokio_util::sync::CancellationToken;
/// use workers::{QueueOptions, RedisOptions, Workers};
///
/// let stop = CancellationToken::new();
/// let workers = Workers::builder(engine)
///     .queue(QueueOptions::named("default"))
///     .queue(QueueOptions { call_concurrency: 16, ..QueueOptions::named("notifications") })
///     .redis(Some(RedisOptions::for_queues("redis://localhost:6379", ["notifications"])))
///     .shutdown_deadline(Duration::from_secs(20))
///     .build()?;
/// workers.run(stop).await
/// # }
/// ```
pub struct Workers {
    engine: Engine,
    queues: Vec<WorkedQueue>,
    shutdown_deadline: Duration,
    due_hints: Option<DueHints>,
}

impl Workers {
    /// Begins to set up the workers of one process.
    pub fn builder(engine: Engine) -> WorkersBuilder {
        WorkersBuilder {
            engine,
            queues: Vec::new(),
            redis: None,
            breaker: None,
            shutdown_deadline: WorkersBuilder::DEFAULT_SHUTDOWN_DEADLINE,
        }
    }

    /// Tells how the queue's Redis is, when there is one.
    pub fn redis(&self) -> Option<RedisHealth> {
        self.due_hints.as_ref().map(DueHints::health)
    }

    /// Works until `stop` is cancelled: then claims nothing more, lets the steps that are under way finish within the
    /// deadline, and releases everything else at once.
    ///
    /// # Errors
    /// [`WorkersError::Panicked`] when a part of this crate panicked; the other parts are stopped as by `stop`.
    ///
    /// # Cancel safety
    /// Dropped, it stops without releasing what it claimed: those leases lapse.
    pub async fn run(self, stop: CancellationToken) -> Result<(), WorkersError> {
        let stop_working = stop.child_token();
        let stop_pushing = CancellationToken::new();
        let mut queues = JoinSet::new();
        for queue in self.queues {
            queues.spawn(queue::run(
                self.engine.clone(),
                queue,
                self.shutdown_deadline,
                stop_working.clone(),
            ));
        }
        let mut hint_tasks = JoinSet::new();
        if let Some(due_hints) = self.due_hints {
            hint_tasks.spawn(due_hints.run(self.engine, stop_working.clone(), stop_pushing.clone()));
        }
        if queues.is_empty() {
            stop_working.cancelled().await;
        }
        let worked = all(&mut queues, &stop_working).await;
        // What the last commits made due is pushed before Redis is left.
        stop_pushing.cancel();
        let carried = tokio::time::timeout(DUE_HINTS_STOP_TIMEOUT, all(&mut hint_tasks, &stop_working)).await;
        worked.and(carried.unwrap_or(Ok(())))
    }
}

impl std::fmt::Debug for Workers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workers")
            .field("queues", &self.queues)
            .field("shutdown_deadline", &self.shutdown_deadline)
            .finish_non_exhaustive()
    }
}

/// Waits for every task; when one panics, stops the others.
async fn all(tasks: &mut JoinSet<()>, stop: &CancellationToken) -> Result<(), WorkersError> {
    let mut result = Ok(());
    while let Some(joined) = tasks.join_next().await {
        if let Err(error) = joined {
            stop.cancel();
            result = Err(WorkersError::Panicked(error));
        }
    }
    result
}

/// Sets up [`Workers`].
pub struct WorkersBuilder {
    engine: Engine,
    queues: Vec<QueueOptions>,
    redis: Option<RedisOptions>,
    breaker: Option<Breaker>,
    shutdown_deadline: Duration,
}

impl WorkersBuilder {
    const DEFAULT_SHUTDOWN_DEADLINE: Duration = Duration::from_secs(20);

    /// Adds a queue to work on.
    pub fn queue(mut self, options: QueueOptions) -> Self {
        self.queues.push(options);
        self
    }

    /// Has Redis carry the ids of due sagas: those of its queues that other processes made due are claimed at once
    /// instead of at the next poll. A process without a queue of that name only pushes.
    pub fn redis(mut self, options: Option<RedisOptions>) -> Self {
        self.redis = options;
        self
    }

    /// Sets the breaker that stands before Redis; one of its own unless set.
    pub fn redis_breaker(mut self, breaker: Breaker) -> Self {
        self.breaker = Some(breaker);
        self
    }

    /// Sets how long steps may go on after the stop; 20 seconds unless set.
    pub fn shutdown_deadline(mut self, deadline: Duration) -> Self {
        self.shutdown_deadline = deadline;
        self
    }

    /// Checks the options. From here on, ids for Redis are gathered; nothing is worked on before [`Workers::run`].
    ///
    /// # Errors
    /// When the options contradict themselves or the Redis URL can't be read; nothing is contacted yet.
    pub fn build(self) -> Result<Workers, WorkersError> {
        for (index, options) in self.queues.iter().enumerate() {
            if options.concurrency == 0 || options.call_concurrency == 0 {
                return Err(WorkersError::NoConcurrency(options.name.clone()));
            }
            if self.queues[..index].iter().any(|other| other.name == options.name) {
                return Err(WorkersError::QueueTwice(options.name.clone()));
            }
        }
        metrics::describe();
        let queues: Vec<_> = self.queues.into_iter().map(WorkedQueue::new).collect();
        let breaker =
            self.breaker.unwrap_or_else(|| Breaker::new(Dependency::Redis, BreakerSettings::default()));
        let due_hints =
            self.redis.map(|options| DueHints::new(&self.engine, options, &queues, breaker)).transpose();
        let due_hints = due_hints.map_err(WorkersError::BadRedisUrl)?;
        Ok(Workers { engine: self.engine, queues, shutdown_deadline: self.shutdown_deadline, due_hints })
    }

    /// Builds and runs in one go; see [`Self::build`] and [`Workers::run`].
    ///
    /// # Errors
    /// Those of both.
    pub async fn run(self, stop: CancellationToken) -> Result<(), WorkersError> {
        self.build()?.run(stop).await
    }
}

impl std::fmt::Debug for WorkersBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkersBuilder")
            .field("queues", &self.queues)
            .field("redis", &self.redis)
            .field("shutdown_deadline", &self.shutdown_deadline)
            .finish_non_exhaustive()
    }
}

/// Workers could not be set up, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum WorkersError {
    /// A queue was given twice.
    #[error("the queue `{0}` is given twice")]
    QueueTwice(String),
    /// A limit of zero would let nothing run.
    #[error("the queue `{0}` needs a concurrency of at least 1, for calls too")]
    NoConcurrency(String),
    /// The Redis URL is none; it is not repeated here, because it can hold a password.
    #[error("the Redis URL can't be read")]
    BadRedisUrl(#[source] redis::RedisError),
    /// A part of the workers panicked, which is a fault in this crate.
    #[error("a part of the workers died")]
    Panicked(#[source] tokio::task::JoinError),
}
