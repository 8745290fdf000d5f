//! One look at a time: health is open to anybody and costs a connection, so that all who ask at once share one look, and
//! those who ask soon after get it too.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::OnceCell;

use super::{body::Health, parts};
use crate::state::ApiState;

/// For how long a look is good enough.
const KEPT: Duration = Duration::from_secs(1);

/// The last look of this process.
#[derive(Debug, Default)]
pub(crate) struct Looks(Mutex<Arc<Look>>);

/// One look, shared by all who wait for it.
#[derive(Debug, Default)]
struct Look(OnceCell<Seen>);

#[derive(Debug)]
struct Seen {
    at: Instant,
    health: Health,
}

impl Looks {
    /// How everything is, or was up to a second ago.
    pub(super) async fn health(&self, state: &ApiState) -> Health {
        let look = self.current();
        let look = look.0.get_or_init(async || Seen { health: parts::ask(state).await, at: Instant::now() });
        look.await.health.clone()
    }

    fn current(&self) -> Arc<Look> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0.get().is_some_and(|seen| seen.at.elapsed() >= KEPT) {
            *last = Arc::default();
        }
        Arc::clone(&last)
    }
}
