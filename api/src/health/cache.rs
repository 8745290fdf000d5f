//! One look at a time: health is open to anybody and costs a connection, so that all who ask at once share one look, and
//! those who ask soon after get it too.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::OnceCell;

use super::{body::Health, checks};
use crate::state::ApiState;

/// For how long a look is good enough.
const CACHE_TTL: Duration = Duration::from_secs(1);

/// The last look of this process.
#[derive(Debug, Default)]
pub(crate) struct HealthCache(Mutex<Arc<Check>>);

/// One look, shared by all who wait for it.
#[derive(Debug, Default)]
struct Check(OnceCell<Checked>);

#[derive(Debug)]
struct Checked {
    at: Instant,
    health: Health,
}

impl HealthCache {
    /// How everything is, or was up to a second ago.
    pub(crate) async fn health(&self, state: &ApiState) -> Health {
        let check = self.current();
        let check = check
            .0
            .get_or_init(async || Checked { health: checks::check_all(state).await, at: Instant::now() });
        check.await.health.clone()
    }

    fn current(&self) -> Arc<Check> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0.get().is_some_and(|checked| checked.at.elapsed() >= CACHE_TTL) {
            *last = Arc::default();
        }
        Arc::clone(&last)
    }
}
