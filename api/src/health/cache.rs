//! Caches health for a second. Health is open to everyone and costs a connection, so callers who ask at the same time
//! share one check, and those who ask soon after get its result.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::{body::Health, checks::check_all, sources::HealthSources};

/// How long the result of a check is cached.
const CACHE_TTL: Duration = Duration::from_secs(1);

/// The last check of this process.
pub(crate) struct HealthCache {
    sources: HealthSources,
    last: Mutex<Arc<Check>>,
}

/// One check, shared by all callers who wait for it.
#[derive(Debug, Default)]
struct Check(OnceCell<Checked>);

#[derive(Debug)]
struct Checked {
    at: Instant,
    health: Health,
}

impl HealthCache {
    pub(crate) fn new(sources: HealthSources) -> Self {
        Self { sources, last: Mutex::default() }
    }

    /// The health of everything, as it was within the last second.
    pub(crate) async fn health(&self) -> Health {
        let check = self.current();
        let checked = check
            .0
            .get_or_init(async || Checked { health: check_all(&self.sources).await, at: Instant::now() });
        checked.await.health.clone()
    }

    fn current(&self) -> Arc<Check> {
        let mut last = self.last.lock();
        if last.0.get().is_some_and(|checked| checked.at.elapsed() >= CACHE_TTL) {
            *last = Arc::default();
        }
        Arc::clone(&last)
    }
}
