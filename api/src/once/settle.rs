//! Closes an `Idempotency-Key` after its request: keeps the answer, or frees the key. When the database is away just then,
//! somebody goes on trying in the background, or customers who come again would be told to wait for a minute.

use std::{sync::Arc, time::Duration};

use shop::idempotency::{self, Answer};
use sqlx::PgPool;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

/// The first pause; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long all last tries together may take when the process ends.
const LAST_TRIES: Duration = Duration::from_secs(5);

/// How a key is closed.
#[derive(Debug)]
pub(super) enum Settling {
    /// This is the answer from now on.
    Keep(Answer),
    /// There is no answer worth keeping; the next request may have another try at once.
    Free,
}

/// A key in flight, or one that may be.
#[derive(Debug)]
pub(super) struct Held {
    key: String,
    scope: String,
    pub(super) holder: Uuid,
}

impl Held {
    /// By a new holder.
    pub(super) fn new(key: &str, scope: &str) -> Self {
        Self { key: key.to_owned(), scope: scope.to_owned(), holder: Uuid::now_v7() }
    }
}

/// Closes keys, and owns the tasks that go on trying; each ends within about a minute.
#[derive(Debug)]
pub(crate) struct Settler {
    pool: PgPool,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Settler {
    /// Goes on trying for this many keys at a time.
    pub(crate) fn new(pool: PgPool, places: usize) -> Self {
        let places = Arc::new(Semaphore::new(places));
        Self { pool, places, tasks: TaskTracker::new(), stop: CancellationToken::new() }
    }

    /// Closes the key now, or in the background as soon as the database answers again.
    pub(super) async fn settle(&self, held: Held, settling: Settling) {
        if let Err(error) = settling.apply(&self.pool, &held).await {
            self.settle_later(held, settling, &error);
        }
    }

    /// Closes the key in the background; `error` is what was in the way.
    pub(super) fn settle_later(&self, held: Held, settling: Settling, error: &sqlx::Error) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return give_up(&held, error);
        };
        tracing::debug!(%error, scope = held.scope, "an Idempotency-Key can't be closed now; trying again for a while");
        let (pool, stop) = (self.pool.clone(), self.stop.clone());
        self.tasks.spawn(keep_trying(pool, held, settling, stop, place));
    }

    /// Has every key that is still open tried a last time, and waits for that, some seconds at the most.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(LAST_TRIES, self.tasks.wait()).await.is_err() {
            let keys = self.tasks.len();
            tracing::warn!(
                keys,
                "Idempotency-Keys stay in flight until they can be taken over: no time is left"
            );
        }
    }
}

/// A try is never dropped half-way, see [`crate::edge`]; the pool's and the server's own time-outs end it.
async fn keep_trying(
    pool: PgPool,
    held: Held,
    settling: Settling,
    stop: CancellationToken,
    _place: OwnedSemaphorePermit,
) {
    // By then any other request may have taken the key over, which then closes it.
    let deadline = Instant::now() + idempotency::IN_FLIGHT_FOR;
    let mut pause = FIRST_PAUSE;
    loop {
        let is_last = tokio::select! {
            () = stop.cancelled() => true,
            () = tokio::time::sleep(pause) => Instant::now() >= deadline,
        };
        match settling.apply(&pool, &held).await {
            Ok(()) => return,
            Err(error) if is_last => return give_up(&held, &error),
            Err(_) => pause = (pause * 2).min(LONGEST_PAUSE),
        }
    }
}

/// Whoever takes the key over finds what the request did by its resource's id.
fn give_up(held: &Held, error: &sqlx::Error) {
    tracing::warn!(%error, scope = held.scope, "an Idempotency-Key stays in flight until it can be taken over");
}

impl Settling {
    async fn apply(&self, pool: &PgPool, held: &Held) -> Result<(), sqlx::Error> {
        let Held { key, scope, holder } = held;
        match self {
            Self::Keep(answer) => idempotency::finish(pool, key, scope, *holder, answer).await,
            Self::Free => idempotency::abandon(pool, key, scope, *holder).await,
        }
    }
}
