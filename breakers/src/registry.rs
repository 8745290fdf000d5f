//! The breakers of one process.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::{Breaker, BreakerSettings, BreakerView, Dependency};

/// All breakers of one process, one a dependency. Cheap to clone.
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
    /// None yet; `settings` says how each will be set.
    pub fn new(settings: impl Fn(Dependency) -> BreakerSettings) -> Self {
        let settings =
            Dependency::ALL.into_iter().map(|dependency| (dependency, settings(dependency))).collect();
        Self { inner: Arc::new(Inner { settings, used: Mutex::default(), changed: Arc::default() }) }
    }

    /// The breaker of a dependency, which this process calls from now on.
    pub fn of(&self, dependency: Dependency) -> Breaker {
        let settings = self.inner.settings.get(&dependency).copied().unwrap_or_default();
        let breaker =
            || Breaker::with_notify(dependency, settings, Arc::clone(&self.inner.changed)).with_metrics();
        self.used().entry(dependency).or_insert_with(breaker).clone()
    }

    /// The breakers that this process uses, at this moment.
    pub fn views(&self) -> Vec<BreakerView> {
        self.used().values().map(Breaker::view).collect()
    }

    /// Waits until one has changed its state since the last time that this was awaited; for one who waits.
    ///
    /// # Cancel safety
    /// No change is lost when dropped.
    pub async fn changed(&self) {
        self.inner.changed.notified().await;
    }

    fn used(&self) -> MutexGuard<'_, BTreeMap<Dependency, Breaker>> {
        // No code that holds it can leave it half changed.
        self.inner.used.lock().unwrap_or_else(PoisonError::into_inner)
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
    async fn a_dependency_has_one_breaker_and_its_change_is_told() {
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
