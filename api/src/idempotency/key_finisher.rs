//! Closes an `Idempotency-Key` after its request: keeps the answer, or frees the key. When the database is away just then,
//! somebody goes on trying in the background, or customers who come again would be told to wait for a minute.

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

/// How a key is closed.
#[derive(Debug)]
pub(super) enum Finish {
    /// This is the answer from now on.
    Store(RecordedResponse),
    /// There is no answer worth keeping; the next request may have another try at once.
    Release,
}

/// A key in flight, or one that may be.
#[derive(Debug)]
pub(super) struct KeyInFlight {
    key: String,
    scope: String,
    pub(super) holder: Uuid,
}

impl KeyInFlight {
    /// By a new holder.
    pub(super) fn new(key: &str, scope: &str) -> Self {
        Self { key: key.to_owned(), scope: scope.to_owned(), holder: Uuid::now_v7() }
    }
}

/// Closes keys, and owns the tasks that go on trying; each ends within about a minute.
#[derive(Debug)]
pub(crate) struct KeyFinisher {
    pool: PgPool,
    permits: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl KeyFinisher {
    /// Goes on trying for this many keys at a time.
    pub(crate) fn new(pool: PgPool, permits: usize) -> Self {
        let permits = Arc::new(Semaphore::new(permits));
        Self { pool, permits, tasks: TaskTracker::new(), stop: CancellationToken::new() }
    }

    /// Closes the key now, or in the background as soon as the database answers again.
    pub(super) async fn finish(&self, key: KeyInFlight, finish: Finish) {
        if let Err(error) = finish.apply(&self.pool, &key).await {
            self.finish_later(key, finish, &error);
        }
    }

    /// Closes the key in the background; `error` is what was in the way.
    pub(super) fn finish_later(&self, key: KeyInFlight, finish: Finish, error: &sqlx::Error) {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            return give_up(&key, error);
        };
        tracing::debug!(%error, scope = key.scope, "an Idempotency-Key can't be closed now; trying again for a while");
        let (pool, stop) = (self.pool.clone(), self.stop.clone());
        self.tasks.spawn(retry_until_done(pool, key, finish, stop, permit));
    }

    /// Has every key that is still open tried a last time, and waits for that, some seconds at the most.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(CLOSE_TIMEOUT, self.tasks.wait()).await.is_err() {
            let keys = self.tasks.len();
            tracing::warn!(
                keys,
                "Idempotency-Keys stay in flight until they can be taken over: no time is left"
            );
        }
    }
}

/// A try is never dropped half-way, see [`crate::middleware`]; the pool's and the server's own time-outs end it.
async fn retry_until_done(
    pool: PgPool,
    key: KeyInFlight,
    finish: Finish,
    stop: CancellationToken,
    _permit: OwnedSemaphorePermit,
) {
    // By then any other request may have taken the key over, which then closes it.
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

/// Whoever takes the key over finds what the request did by its resource's id.
fn give_up(key: &KeyInFlight, error: &sqlx::Error) {
    tracing::warn!(%error, scope = key.scope, "an Idempotency-Key stays in flight until it can be taken over");
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
