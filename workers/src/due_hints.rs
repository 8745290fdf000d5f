//! Passes due hints through Redis: the ids of sagas that have become due.
//!
//! After the commit that made sagas due, their ids are pushed through apalis-redis. An apalis worker in whichever
//! process is free receives them and claims the sagas by id in PostgreSQL, which alone decides. A lost, late or
//! duplicate id does no harm, so nothing is retried here: when anything fails, the whole session with Redis is
//! abandoned and a new one begins with a new worker name. The engine's poll finds what no due hint announces.

mod backoff;
mod claim;
mod error;
mod health;
mod hints;
mod prune;
mod push;
mod receive;
mod redis_options;
mod redis_queue;

use std::{sync::Arc, time::Duration};

use breakers::{Breaker, BreakerState};
use engine::{Engine, SagaId};
use futures::future::try_join_all;
use metrics::Gauge;
use redis::{AsyncConnectionConfig, Client, RedisError, aio::MultiplexedConnection};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use self::{backoff::Backoff, error::DueHintsError, redis_queue::RedisQueue};
pub use self::{
    health::{RedisHealth, RedisState},
    redis_options::RedisOptions,
};
use crate::{metrics::redis_up, queue::WorkedQueue};

/// How long Redis may take for one answer before the session is abandoned.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
/// After a session of this length the pauses between attempts start again from the shortest.
const STABLE_SESSION: Duration = Duration::from_secs(10);

/// Passes the ids of due sagas through Redis, for all queues that use it.
pub(crate) struct DueHints {
    client: Client,
    prefix: String,
    queues: Vec<RedisQueue>,
    state: watch::Sender<RedisState>,
    breaker: Breaker,
}

impl DueHints {
    /// Sets up the queues and lets the engine report the sagas that become due. For a queue that is not among `worked`,
    /// ids are only pushed.
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
        RedisHealth::new(self.state.subscribe())
    }

    /// Runs until `stop_pushing`; receives nothing more from `stop_receiving` on.
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
        // Drops the last senders of ids, which ends the claimers.
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
                    pause(open.retry_delay(), stop_pushing).await;
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
                    let ended = self.run_session(&connection, stop_receiving, stop_pushing).await;
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
                tracing::warn!(
                    error = %engine::ErrorChain(&error),
                    "the queue's Redis is unreachable; the poll finds the work until it is back"
                );
                logged = LoggedState::Down;
            }
            let retry_delay = match self.breaker.state() {
                BreakerState::Closed => backoff.next(),
                // The breaker's own delay applies.
                BreakerState::HalfOpen | BreakerState::Open => Duration::ZERO,
            };
            pause(retry_delay, stop_pushing).await;
        }
    }

    /// Pushes and receives the ids of all queues over one connection, until something fails or `stop_pushing`.
    async fn run_session(
        &mut self,
        connection: &MultiplexedConnection,
        stop_receiving: &CancellationToken,
        stop_pushing: &CancellationToken,
    ) -> Result<(), DueHintsError> {
        let queues =
            self.queues.iter_mut().map(|queue| queue.run_session(connection, stop_receiving, stop_pushing));
        try_join_all(queues).await.map(drop)
    }

    fn set_state(&self, state: RedisState, gauge: &Gauge) {
        gauge.set(match state {
            RedisState::Up => 1.0,
            RedisState::Down => 0.0,
        });
        self.state.send_replace(state);
    }
}

/// The state that was last logged, so that changes are logged and attempts are not.
#[derive(PartialEq, Eq)]
enum LoggedState {
    Nothing,
    Up,
    Down,
}

async fn pause(time: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(time) => {}
        () = stop.cancelled() => {}
    }
}

/// Connects, and tries a write: a Redis that is read-only or still loads its data can't pass ids on.
async fn connect(client: &Client, prefix: &str) -> Result<MultiplexedConnection, RedisError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(RESPONSE_TIMEOUT))
        .set_response_timeout(Some(RESPONSE_TIMEOUT));
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    let probe = format!("{prefix}:probe");
    redis::cmd("SET").arg(probe).arg(1).arg("EX").arg(60).query_async::<()>(&mut connection).await?;
    Ok(connection)
}
