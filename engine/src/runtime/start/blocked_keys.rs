//! Remembers which starts waited for a lock in vain, so that others with the same key don't join a batch.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::definition::new_saga::NewSaga;

/// How long a key is remembered after its last time-out.
const REMEMBERED: Duration = Duration::from_secs(10);
/// The most keys that are remembered; the map is cleared when it is full. Losing this memory makes batches slower, not
/// wrong.
const MAX_REMEMBERED: usize = 10_000;

/// A definition, and the business key or id of a start.
type Key = (String, String);

/// The keys of starts that timed out alone: they waited for a lock, or took too long.
#[derive(Debug, Default)]
pub(super) struct BlockedKeys(Mutex<HashMap<Key, Instant>>);

impl BlockedKeys {
    pub(super) fn contains(&self, saga: &NewSaga) -> bool {
        let blocked = self.0.lock();
        !blocked.is_empty() && blocked.get(&key(saga)).is_some_and(|at| at.elapsed() < REMEMBERED)
    }

    pub(super) fn insert(&self, saga: &NewSaga) {
        let mut blocked = self.0.lock();
        if blocked.len() >= MAX_REMEMBERED {
            blocked.clear();
        }
        blocked.insert(key(saga), Instant::now());
    }

    pub(super) fn remove(&self, saga: &NewSaga) {
        let mut blocked = self.0.lock();
        if !blocked.is_empty() {
            blocked.remove(&key(saga));
        }
    }
}

fn key(saga: &NewSaga) -> Key {
    let key = saga.business_key.clone().unwrap_or_else(|| saga.id.to_string());
    (saga.definition.to_string(), key)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_start_is_known_by_its_business_key_or_else_by_its_id() {
        let saga = || NewSaga::untyped("refund", &json!({}));
        let blocked = BlockedKeys::default();
        let (keyed, keyless) = (saga().business_key("k"), saga());
        blocked.insert(&keyed);
        blocked.insert(&keyless);
        assert!(blocked.contains(&saga().business_key("k")) && blocked.contains(&keyless));
        assert!(!blocked.contains(&saga().business_key("other")) && !blocked.contains(&saga()));
        assert!(!blocked.contains(&NewSaga::untyped("another", &json!({})).business_key("k")));
        blocked.remove(&keyed);
        assert!(!blocked.contains(&keyed) && blocked.contains(&keyless));
    }
}
