//! Redis as the carrier of hints: which sagas have become due.
//!
//! Ids are pushed through apalis-redis after the commit that made them due, received by an apalis worker in whichever
//! process is free, and claimed there by id in PostgreSQL, which alone decides. A lost, late or doubled id does no
//! harm, so nothing is retried here: when anything fails, the whole session with Redis is given up and begun anew
//! with a new worker name. The poll of the engine stands behind.

mod backoff;
mod claim;
mod hints;
mod prune;
mod push;
mod receive;
mod redis_queue;

use std::{sync::Arc, time::Duration};

use apalis_core::monitor::MonitorError;
use breakers::{Breaker, BreakerState};
use engine::{Engine, SagaId};
use futures::future::try_join_all;
use metrics::Gauge;
use redis::{AsyncConnectionConfig, Client, RedisError, aio::MultiplexedConnection};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use self::{backoff::Backoff, redis_queue::RedisQueue};
use crate::{metrics::redis_up, queue::WorkedQueue};

/// How long one answer of Redis may take before the session is given up.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
/// A session that lasted this long was a good one: the next attempt comes soon.
const STABLE_SESSION: Duration = Duration::from_secs(10);

/// Which Redis carries ids, and of which queues.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisOptions {
    url: String,
    queues: Vec<String>,
    prefix: String,
}

impl RedisOptions {
    /// Has the Redis at `url` (`redis://…`) carry the ids of these queues.
    pub fn for_queues(url: impl Into<String>, queues: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            url: url.into(),
            queues: queues.into_iter().map(Into::into).collect(),
            prefix: "sagaline".into(),
        }
    }

    /// Sets what every key in Redis begins with; `sagaline` unless set. Two systems on one Redis need two prefixes.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }
}

/// Without the URL, which can hold a password.
impl std::fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisOptions")
            .field("queues", &self.queues)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// Whether the queue's Redis answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedisState {
    /// It carries ids.
    Up,
    /// It is away, and tried again; work is found by the poll, so it is late at most.
    Down,
}

/// Tells how the queue's Redis is. Cheap to clone and to ask.
#[derive(Clone, Debug)]
pub struct RedisHealth(watch::Receiver<RedisState>);

impl RedisHealth {
    /// How it is now.
    pub fn state(&self) -> RedisState {
        *self.0.borrow()
    }

    /// Waits until it is so. Never resolves when the workers end before.
    pub async fn reached(&self, state: RedisState) {
        let mut changes = self.0.clone();
        if changes.wait_for(|now| *now == state).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Carries the ids of all queues that ride on Redis.
pub(crate) struct DueHints {
    client: Client,
    prefix: String,
    queues: Vec<RedisQueue>,
    state: watch::Sender<RedisState>,
    breaker: Breaker,
}

impl DueHints {
    /// Sets up the queues and has the engine tell what is due. Of queues that are not `worked` on here, ids are only
    /// pushed.
    pub(crate) fn new(
        engine: &Engine,
        options: RedisOptions,
        worked: &[WorkedQueue],
        breaker: Breaker,
    ) -> Result<Self, RedisError> {
        let client = Client::open(options.url)?;
        let state = watch::Sender::new(RedisState::Down);
        let queues = options.queues.iter().map(|queue| {
            let worked = worked.iter().find(|worked| worked.name() == queue).cloned();
            let (redis_queue, hints) = RedisQueue::new(queue, &options.prefix, worked, state.subscribe());
            engine.on_due(queue, Arc::new(move |due: Vec<SagaId>| hints.send(due)));
            redis_queue
        });
        let queues = queues.collect();
        Ok(Self { client, prefix: options.prefix, queues, state, breaker })
    }

    pub(crate) fn health(&self) -> RedisHealth {
        RedisHealth(self.state.subscribe())
    }

    /// Carries until `stop_pushing`; receives nothing more from `stop_receiving` on.
    pub(crate) async fn run(
        mut self,
        engine: Engine,
        stop_receiving: CancellationToken,
        stop_pushing: CancellationToken,
    ) {
        let mut claimers = JoinSet::new();
        for queue in &mut self.queues {
            if let Some((worked, received_ids)) = queue.take_received_ids() {
                claimers.spawn(claim::claim(engine.clone(), received_ids, worked, queue.metrics().clone()));
            }
        }
        self.run_sessions(&stop_receiving, &stop_pushing).await;
        // Ends the claimers: nobody sends them ids any more.
        drop(self);
        claimers.join_all().await;
    }

    async fn run_sessions(&mut self, stop_receiving: &CancellationToken, stop_pushing: &CancellationToken) {
        let gauge = redis_up();
        gauge.set(0.0);
        let mut backoff = Backoff::default();
        let mut logged = LoggedState::Nothing;
        while !stop_pushing.is_cancelled() {
            let permit = match self.breaker.try_acquire() {
                Ok(permit) => permit,
                Err(open) => {
                    tokio::select! {
                        () = tokio::time::sleep(open.retry_delay()) => {}
                        () = stop_pushing.cancelled() => {}
                    }
                    continue;
                }
            };
            let ended = match connect(&self.client, &self.prefix).await {
                Ok(connection) => {
                    permit.succeeded();
                    tracing::info!("the queue's Redis answers");
                    logged = LoggedState::Up;
                    self.set_state(RedisState::Up, &gauge);
                    let began = tokio::time::Instant::now();
                    let carrying = self
                        .queues
                        .iter_mut()
                        .map(|queue| queue.run_session(&connection, stop_receiving, stop_pushing));
                    let ended = try_join_all(carrying).await.map(drop);
                    self.set_state(RedisState::Down, &gauge);
                    if began.elapsed() >= STABLE_SESSION {
                        backoff = Backoff::default();
                    }
                    ended
                }
                Err(error) => {
                    permit.failed();
                    Err(error.into())
                }
            };
            let Err(error) = ended else { return };
            if logged != LoggedState::Down {
                let error = &error as &(dyn std::error::Error + 'static);
                tracing::warn!(
                    error,
                    "the queue's Redis is away; work is found by the poll until it is back"
                );
                logged = LoggedState::Down;
            }
            // An open breaker says itself when to try again.
            let pause = match self.breaker.state() {
                BreakerState::Closed => backoff.next(),
                BreakerState::HalfOpen | BreakerState::Open => Duration::ZERO,
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop_pushing.cancelled() => {}
            }
        }
    }

    fn set_state(&self, state: RedisState, gauge: &Gauge) {
        gauge.set(match state {
            RedisState::Up => 1.0,
            RedisState::Down => 0.0,
        });
        self.state.send_replace(state);
    }
}

/// What the log was last told, so that it hears of turns and not of attempts.
#[derive(PartialEq, Eq)]
enum LoggedState {
    Nothing,
    Up,
    Down,
}

/// Connects, and tries a write: a Redis that only reads, or still loads its data, carries nothing.
async fn connect(client: &Client, prefix: &str) -> Result<MultiplexedConnection, RedisError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(RESPONSE_TIMEOUT))
        .set_response_timeout(Some(RESPONSE_TIMEOUT));
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    let probe = format!("{prefix}:probe");
    redis::cmd("SET").arg(probe).arg(1).arg("EX").arg(60).query_async::<()>(&mut connection).await?;
    Ok(connection)
}

/// Why a session with Redis ended.
#[derive(Debug, thiserror::Error)]
enum DueHintsError {
    #[error("a command failed")]
    Command(#[from] RedisError),
    #[error("ids could not be pushed")]
    Push(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the receiving worker ended: {0}")]
    Receive(String),
    #[error("the receiving worker ended without an error")]
    Ended,
}

/// apalis tells of its workers in several lines; the log wants one.
impl From<MonitorError> for DueHintsError {
    fn from(error: MonitorError) -> Self {
        Self::Receive(error.to_string().split_whitespace().collect::<Vec<_>>().join(" "))
    }
}
