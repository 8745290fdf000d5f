//! Runs the work of a request once per key.

use std::{future::Future, panic::AssertUnwindSafe, time::Duration};

use axum::response::{IntoResponse, Response};
use futures::{FutureExt, future::BoxFuture};
use sha2::{Digest, Sha256};
use shop::idempotency::{self, Begin};
use sqlx::PgPool;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    key::IdempotencyKey,
    key_finisher::{Finish, KeyFinisher, KeyInFlight},
    stored::{replay, stored_problem, stored_success},
};
use crate::{
    http::{JsonResponse, Problem, ProblemCode},
    load::Limits,
};

/// The work of one request. It gets the id that what it creates must have.
type Work<'a> = Box<dyn FnOnce(Uuid) -> BoxFuture<'a, Result<JsonResponse, Problem>> + Send + 'a>;

/// The pauses between two looks at a key that another request holds.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const MAX_PAUSE: Duration = Duration::from_millis(200);

/// Runs the work of requests once per key.
#[derive(Debug)]
pub(crate) struct Idempotency {
    pool: PgPool,
    finisher: KeyFinisher,
    replay_timeout: Duration,
}

impl Idempotency {
    pub(crate) fn new(pool: PgPool, limits: &Limits) -> Self {
        let finisher = KeyFinisher::new(pool.clone(), limits.in_flight);
        Self { pool, finisher, replay_timeout: limits.replay_timeout }
    }

    /// Finishes every key that is still open; it takes some seconds at most.
    pub(crate) async fn close(&self) {
        self.finisher.close().await;
    }

    /// Runs `work` once per key; without a key it simply runs. `work` gets the id that what it creates must have, which
    /// is the same if a crash makes another request do the work again. A failure of ours (5xx) is not stored: the next
    /// request may succeed.
    ///
    /// A second request waits a moment for the first one's answer.
    ///
    /// # Errors
    /// What `work` gives; a 422 when the key was used with another body; a 409 when the first request is still running.
    pub(crate) async fn run<W, F>(
        &self,
        key: IdempotencyKey,
        operation: &str,
        body: &[u8],
        work: W,
    ) -> Result<Response, Problem>
    where
        W: FnOnce(Uuid) -> F + Send,
        F: Future<Output = Result<JsonResponse, Problem>> + Send,
    {
        // Boxed, so that all that follows is compiled once and not for every endpoint.
        self.run_boxed(key, operation, body, Box::new(|id| work(id).boxed())).await
    }

    async fn run_boxed(
        &self,
        key: IdempotencyKey,
        operation: &str,
        body: &[u8],
        work: Work<'_>,
    ) -> Result<Response, Problem> {
        let scope = key.scope(operation);
        let Some(key) = key.key else {
            return work(Uuid::now_v7()).await.map(IntoResponse::into_response);
        };
        let hash = Sha256::digest(body);
        let deadline = Instant::now() + self.replay_timeout;
        let mut pause = FIRST_PAUSE;
        loop {
            let in_flight = KeyInFlight::new(&key, &scope);
            let begun = idempotency::begin(&self.pool, &key, &scope, &hash, in_flight.holder).await;
            let begun = match begun {
                Ok(begun) => begun,
                // Nothing was sent.
                Err(error @ (sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed)) => {
                    return Err(error.into());
                }
                Err(error) => {
                    // The commit may have succeeded all the same.
                    self.finisher.finish_later(in_flight, Finish::Release, &error);
                    return Err(error.into());
                }
            };
            match begun {
                Begin::Fresh { resource_id } => return self.run_first(in_flight, work(resource_id)).await,
                Begin::Replay(answer) => return replay(answer),
                Begin::Mismatch => return Err(Problem::example(ProblemCode::IdempotencyMismatch)),
                Begin::InFlight if Instant::now() + pause > deadline => {
                    return Err(Problem::example(ProblemCode::IdempotencyInFlight));
                }
                Begin::InFlight => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(MAX_PAUSE);
                }
            }
        }
    }

    async fn run_first(
        &self,
        in_flight: KeyInFlight,
        work: BoxFuture<'_, Result<JsonResponse, Problem>>,
    ) -> Result<Response, Problem> {
        let result = match AssertUnwindSafe(work).catch_unwind().await {
            Ok(result) => result,
            Err(panic) => {
                self.finisher.finish(in_flight, Finish::Release).await;
                std::panic::resume_unwind(panic);
            }
        };
        let (finish, result) = match result {
            Ok(response) => match stored_success(&response) {
                Ok(stored) => (Finish::Store(stored), Ok(response)),
                Err(problem) => (Finish::Release, Err(problem)),
            },
            Err(problem) => (stored_problem(&problem), Err(problem)),
        };
        self.finisher.finish(in_flight, finish).await;
        result.map(IntoResponse::into_response)
    }
}
