//! The workers of one process: all its queues, and the due hints through Redis if there is one.

use std::time::Duration;

use breakers::{Breaker, BreakerSettings, Dependency};
use engine::Engine;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    due_hints::{DueHints, RedisHealth, RedisOptions},
    metrics::describe_metrics,
    queue::{self, QueueOptions, WorkedQueue},
};

/// How long passing due hints may take to end; Redis holds nothing that would be missed.
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
    /// Returns a builder for the workers of one process.
    pub fn builder(engine: Engine) -> WorkersBuilder {
        WorkersBuilder {
            engine,
            queues: Vec::new(),
            redis: None,
            breaker: None,
            shutdown_deadline: WorkersBuilder::DEFAULT_SHUTDOWN_DEADLINE,
        }
    }

    /// Reports the state of the queue's Redis, if there is one.
    pub fn redis(&self) -> Option<RedisHealth> {
        self.due_hints.as_ref().map(DueHints::health)
    }

    /// Works until `stop` is cancelled: then claims nothing more, lets the steps in progress finish within the
    /// deadline, and releases everything else at once.
    ///
    /// # Errors
    /// [`WorkersError::Panicked`] when a task of this crate panicked; the other tasks are stopped as by `stop`.
    ///
    /// # Cancel safety
    /// Dropping the future stops the workers without releasing their claims: the leases lapse.
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
        // The ids of sagas that the last commits made due are pushed before this ends.
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

/// Waits for every task; stops the others when one panics.
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

/// A builder for [`Workers`].
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

    /// Passes the ids of due sagas through Redis: sagas that another process made due are claimed at once instead of at
    /// the next poll. For a queue that this process does not work on, ids are only pushed.
    pub fn redis(mut self, options: Option<RedisOptions>) -> Self {
        self.redis = options;
        self
    }

    /// Sets the breaker of the calls to Redis; by default the workers create one.
    pub fn redis_breaker(mut self, breaker: Breaker) -> Self {
        self.breaker = Some(breaker);
        self
    }

    /// Sets how long steps may go on after the stop; 20 seconds by default.
    pub fn shutdown_deadline(mut self, deadline: Duration) -> Self {
        self.shutdown_deadline = deadline;
        self
    }

    /// Checks the options. Ids for Redis are collected from here on; work begins with [`Workers::run`].
    ///
    /// # Errors
    /// When the options contradict themselves or the Redis URL is invalid; connects to nothing yet.
    pub fn build(self) -> Result<Workers, WorkersError> {
        for (index, options) in self.queues.iter().enumerate() {
            if options.concurrency == 0 || options.call_concurrency == 0 {
                return Err(WorkersError::NoConcurrency(options.name.clone()));
            }
            if self.queues[..index].iter().any(|other| other.name == options.name) {
                return Err(WorkersError::QueueTwice(options.name.clone()));
            }
        }
        describe_metrics();
        let queues: Vec<_> = self.queues.into_iter().map(WorkedQueue::new).collect();
        let breaker =
            self.breaker.unwrap_or_else(|| Breaker::new(Dependency::Redis, BreakerSettings::default()));
        let due_hints =
            self.redis.map(|options| DueHints::new(&self.engine, options, &queues, breaker)).transpose();
        let due_hints = due_hints.map_err(WorkersError::BadRedisUrl)?;
        Ok(Workers { engine: self.engine, queues, shutdown_deadline: self.shutdown_deadline, due_hints })
    }

    /// Builds the workers and runs them; see [`Self::build`] and [`Workers::run`].
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

/// The workers could not be built, or one of them panicked.
#[derive(Debug, thiserror::Error)]
pub enum WorkersError {
    /// Two queues have the same name.
    #[error("the queue `{0}` is named twice")]
    QueueTwice(String),
    /// A queue's concurrency is zero, so that nothing could run.
    #[error("the queue `{0}` needs a concurrency of at least 1, for calls too")]
    NoConcurrency(String),
    /// The Redis URL is invalid; the message leaves it out, because it can hold a password.
    #[error("the Redis URL can't be read")]
    BadRedisUrl(#[source] redis::RedisError),
    /// A task of the workers panicked, which is a bug of this crate.
    #[error("a task of the workers panicked")]
    Panicked(#[source] tokio::task::JoinError),
}
