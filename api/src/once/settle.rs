//! Closes an `Idempotency-Key` after its request: keeps the answer, or frees the key. When the database is away just then,
//! somebody goes on trying in the background, or customers who come again would be told to wait for a minute.

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;
use workflows::idempotency;

use crate::state::ApiState;

/// Past this the key may be taken over by another request, whose it then is.
const LIMIT: Duration = Duration::from_secs(45);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How a key is closed.
#[derive(Clone, Debug)]
pub(super) enum Settling {
    /// This is the answer from now on.
    Keep { status: u16, location: Option<String>, text: String },
    /// There is no answer worth keeping; the next request may have another try at once.
    Free,
    /// Whether it was begun at all is not known: if this holder has it, it is freed.
    FreeIfHeldBy(Uuid),
}

/// A key in flight.
#[derive(Clone)]
pub(super) struct InFlight<'a> {
    pub(super) state: &'a ApiState,
    pub(super) key: &'a str,
    pub(super) scope: &'static str,
}

impl InFlight<'_> {
    /// Closes the key now, or in the background as soon as the database answers again.
    pub(super) async fn settle(&self, settling: Settling) {
        let Err(error) = settling.apply(self.state, self.key, self.scope).await else { return };
        tracing::warn!(%error, "an Idempotency-Key can't be closed now; trying again for a while");
        let (state, key, scope) = (self.state.clone(), self.key.to_owned(), self.scope);
        // It ends by itself: settled, out of time, or because the pool was closed for the process to end. What is lost
        // with the process is a key that stays in flight for a minute.
        tokio::spawn(async move { keep_trying(&state, &key, scope, &settling).await });
    }
}

async fn keep_trying(state: &ApiState, key: &str, scope: &str, settling: &Settling) {
    let deadline = Instant::now() + LIMIT;
    let mut pause = Duration::from_millis(50);
    while Instant::now() + pause < deadline {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        match settling.apply(state, key, scope).await {
            Ok(()) => return,
            Err(sqlx::Error::PoolClosed) => break,
            Err(error) => tracing::debug!(%error, "an Idempotency-Key still can't be closed"),
        }
    }
    tracing::warn!("an Idempotency-Key stays in flight until it can be taken over");
}

impl Settling {
    async fn apply(&self, state: &ApiState, key: &str, scope: &str) -> Result<(), sqlx::Error> {
        match self {
            Self::Keep { status, location, text } => {
                idempotency::finish(state.pool(), key, scope, *status, location.as_deref(), text).await
            }
            Self::Free => idempotency::abandon(state.pool(), key, scope).await,
            Self::FreeIfHeldBy(holder) => idempotency::free(state.pool(), key, scope, *holder).await,
        }
    }
}
