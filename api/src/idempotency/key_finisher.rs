//! Finishes an `Idempotency-Key` after its request: stores the answer, or releases the key. When the database can't be
//! reached at that moment, a background task keeps trying; otherwise callers who repeat the request would have to wait
//! for a minute.

use std::{sync::Arc, time::Duration};

use shop::idempotency::{self, RecordedResponse};
use sqlx::PgPool;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

/// The first pause; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// How long all last tries together may take when the process ends.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How a key is finished.
#[derive(Debug)]
pub(super) enum Finish {
    /// Stores the answer that every later request gets.
    Store(RecordedResponse),
    /// Stores no answer; the next request may try again at once.
    Release,
}

/// A key that this request holds. It stays in flight until the database confirms that it is finished.
#[derive(Debug)]
pub(super) struct KeyInFlight {
    key: String,
    scope: String,
    pub(super) holder: Uuid,
}

impl KeyInFlight {
    /// A key of a new holder.
    pub(super) fn new(key: &str, scope: &str) -> Self {
        Self { key: key.to_owned(), scope: scope.to_owned(), holder: Uuid::now_v7() }
    }
}

/// Finishes keys, and owns the tasks that keep trying; each ends within about a minute.
#[derive(Debug)]
pub(crate) struct KeyFinisher {
    pool: PgPool,
    permits: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl KeyFinisher {
    /// Creates a finisher that keeps trying for this many keys at a time.
    pub(crate) fn new(pool: PgPool, permits: usize) -> Self {
        let permits = Arc::new(Semaphore::new(permits));
        Self { pool, permits, tasks: TaskTracker::new(), stop: CancellationToken::new() }
    }

    /// Finishes the key now, or in the background as soon as the database answers again.
    pub(super) async fn finish(&self, key: KeyInFlight, finish: Finish) {
        if let Err(error) = finish.apply(&self.pool, &key).await {
            self.finish_later(key, finish, &error);
        }
    }

    /// Finishes the key in the background; `error` says why it could not be done at once.
    pub(super) fn finish_later(&self, key: KeyInFlight, finish: Finish, error: &sqlx::Error) {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            return give_up(&key, error);
        };
        tracing::debug!(error = %engine::ErrorChain(&error), scope = key.scope, "an Idempotency-Key can't be finished now; trying again for a while");
        let (pool, stop) = (self.pool.clone(), self.stop.clone());
        self.tasks.spawn(retry_until_done(pool, key, finish, stop, permit));
    }

    /// Tries a last time for every key that is still open, and waits for that, some seconds at most.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(CLOSE_TIMEOUT, self.tasks.wait()).await.is_err() {
            let keys = self.tasks.len();
            tracing::warn!(
                keys,
                "Idempotency-Keys stay in flight until they can be taken over: the process is stopping"
            );
        }
    }
}

/// An attempt is never dropped half-way (sqlx would lose a connection's permit); the time-outs of the pool and the
/// server end it.
async fn retry_until_done(
    pool: PgPool,
    key: KeyInFlight,
    finish: Finish,
    stop: CancellationToken,
    _permit: OwnedSemaphorePermit,
) {
    // From the deadline on another request may take the key over, and then that request finishes it.
    let deadline = Instant::now() + idempotency::IN_FLIGHT_TIMEOUT;
    let mut pause = FIRST_PAUSE;
    loop {
        let is_last = tokio::select! {
            () = stop.cancelled() => true,
            () = tokio::time::sleep(pause) => Instant::now() >= deadline,
        };
        match finish.apply(&pool, &key).await {
            Ok(()) => return,
            Err(error) if is_last => return give_up(&key, &error),
            Err(_) => pause = (pause * 2).min(MAX_PAUSE),
        }
    }
}

/// Logs that a key stays in flight. The request that takes it over finds by the id of the resource whether this request
/// has created it.
fn give_up(key: &KeyInFlight, error: &sqlx::Error) {
    tracing::warn!(error = %engine::ErrorChain(&error), scope = key.scope, "an Idempotency-Key stays in flight until it can be taken over");
}

impl Finish {
    async fn apply(&self, pool: &PgPool, key: &KeyInFlight) -> Result<(), sqlx::Error> {
        let KeyInFlight { key, scope, holder } = key;
        match self {
            Self::Store(answer) => idempotency::finish(pool, key, scope, *holder, answer).await,
            Self::Release => idempotency::abandon(pool, key, scope, *holder).await,
        }
    }
}
