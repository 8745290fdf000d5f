//! The registry of the breakers that one process uses.

use std::{collections::BTreeMap, fmt, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{breaker::Breaker, dependency::Dependency, settings::BreakerSettings, view::BreakerView};

/// All breakers of one process, one per dependency. Cheap to clone.
#[derive(Clone)]
pub struct Breakers {
    inner: Arc<Inner>,
}

struct Inner {
    settings: BTreeMap<Dependency, BreakerSettings>,
    used: Mutex<BTreeMap<Dependency, Breaker>>,
    changed: Arc<Notify>,
}

impl Breakers {
    /// Creates an empty registry; `settings` returns the settings of each dependency.
    pub fn new(settings: impl Fn(Dependency) -> BreakerSettings) -> Self {
        let settings =
            Dependency::ALL.iter().map(|dependency| (*dependency, settings(*dependency))).collect();
        Self { inner: Arc::new(Inner { settings, used: Mutex::default(), changed: Arc::default() }) }
    }

    /// The breaker of a dependency, created at the first call.
    pub fn of(&self, dependency: Dependency) -> Breaker {
        let settings = self.inner.settings.get(&dependency).copied().unwrap_or_default();
        let breaker =
            || Breaker::with_notify(dependency, settings, Arc::clone(&self.inner.changed)).with_metrics();
        self.inner.used.lock().entry(dependency).or_insert_with(breaker).clone()
    }

    /// The breakers created so far, as they are at this moment.
    pub fn views(&self) -> Vec<BreakerView> {
        self.inner.used.lock().values().map(Breaker::view).collect()
    }

    /// Waits until a breaker has changed its state since the last call; for a single caller.
    ///
    /// # Cancel safety
    /// Dropping the future loses no change.
    pub async fn changed(&self) {
        self.inner.changed.notified().await;
    }
}

impl Default for Breakers {
    fn default() -> Self {
        Self::new(|_| BreakerSettings::default())
    }
}

impl fmt::Debug for Breakers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.views()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::BreakerState;

    #[tokio::test]
    async fn a_dependency_has_one_breaker_and_its_change_is_notified() {
        let breakers = Breakers::new(|dependency| BreakerSettings {
            failures: if dependency == Dependency::Redis { 1 } else { 5 },
            open_duration: Duration::from_hours(1),
            successes_to_close: 1,
        });
        assert_eq!(breakers.views(), []);
        breakers.of(Dependency::Amqp).try_acquire().unwrap().failed();
        breakers.of(Dependency::Redis).try_acquire().unwrap().failed();
        breakers.changed().await;
        let states: Vec<_> = breakers.views().iter().map(|view| (view.dependency, view.state)).collect();
        assert_eq!(
            states,
            [(Dependency::Redis, BreakerState::Open), (Dependency::Amqp, BreakerState::Closed)]
        );
    }
}
