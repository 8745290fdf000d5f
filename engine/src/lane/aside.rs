//! Beside a lane: batches that met trouble are split down to the sagas at fault, and sagas that may hold others up are alone.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::FutureExt;

use super::{
    Berth, Lane, Request,
    attempt::{Terms, patiently},
    database_is_away, give_up, settle, unzip, zip,
};
use crate::{advance::Remedy, ids::SagaId, meters::HELD_UP, trouble::Trouble};

/// A saga whose outcome can't be written is left alone this long.
const SET_ASIDE: Duration = Duration::from_secs(15);
/// How long a part of a batch that was held up waits for a lock, and a saga at first.
const LOCK_WAIT: Duration = Duration::from_millis(100);
const LONGEST_LOCK_WAIT: Duration = Duration::from_millis(1500);
/// How long a saga that was held up is left alone at first.
const HELD_UP_FOR: Duration = Duration::from_millis(100);
const LONGEST_HELD_UP: Duration = Duration::from_secs(5);
/// From so often in a row on it is told aloud.
const OFTEN: u32 = 5;
/// More are not remembered.
const MOST: usize = 10_000;

/// Sagas that met trouble alone: until they get through they don't join a batch again, which would have to be split for
/// them each time. Only a memory: without it batches are slower, not wrong.
#[derive(Debug, Default)]
pub(super) struct Loners {
    /// How often in a row each was held up by a lock.
    held_up: Mutex<HashMap<SagaId, u32>>,
}

impl Loners {
    pub(super) fn know(&self, saga_id: SagaId) -> bool {
        let known = self.known();
        !known.is_empty() && known.contains_key(&saga_id)
    }

    fn note(&self, saga_id: SagaId) {
        let mut known = self.known();
        if known.len() >= MOST {
            known.clear();
        }
        known.entry(saga_id).or_default();
    }

    /// Counts that a saga was held up, and tells how often it was before.
    fn held_up(&self, saga_id: SagaId) -> u32 {
        self.note(saga_id);
        let mut known = self.known();
        let count = known.entry(saga_id).or_default();
        *count += 1;
        *count - 1
    }

    fn times(&self, saga_id: SagaId) -> u32 {
        self.known().get(&saga_id).copied().unwrap_or_default()
    }

    fn forget(&self, saga_id: SagaId) {
        self.known().remove(&saga_id);
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<SagaId, u32>> {
        self.held_up.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Some sagas of a batch, and what is known to help.
pub(super) struct Part {
    requests: Vec<Request>,
    remedy: Remedy,
}

impl Part {
    pub(super) fn whole(requests: Vec<Request>) -> Self {
        Self { requests, remedy: Remedy::None }
    }

    /// The saga, if it is alone.
    fn only(&self) -> Option<SagaId> {
        let [request] = self.requests.as_slice() else { return None };
        Some(request.track.job.saga_id)
    }
}

impl Lane {
    /// Commits a part aside, in a task of its own and a few at a time; `trouble` is what it met in the lane.
    pub(super) fn go_aside(self: Arc<Self>, part: Part, trouble: Option<Trouble>) {
        let tasks = self.engine.tasks.clone();
        tasks.spawn(async move {
            // It is never closed.
            let Ok(_place) = self.places.acquire().await else { return };
            if AssertUnwindSafe(self.work_through(part, trouble)).catch_unwind().await.is_err() {
                tracing::error!(
                    "committing a batch panicked; its sagas are taken over when their leases end"
                );
            }
        });
    }

    /// Commits a part, in smaller ones where it must: what fails is split in halves until the saga at fault is alone.
    async fn work_through(&self, part: Part, trouble: Option<Trouble>) {
        let mut parts = match trouble {
            Some(trouble) => self.respond(part, trouble, Berth::Lane),
            None => vec![part],
        };
        while let Some(Part { requests, remedy }) = parts.pop() {
            let alone = if let [request] = requests.as_slice() { Some(&request.track) } else { None };
            let lock_wait = match alone {
                None => Some(LOCK_WAIT),
                Some(track) if track.called() => None,
                Some(track) => {
                    let times = self.loners.times(track.job.saga_id);
                    Some(doubled(LOCK_WAIT, times, LONGEST_LOCK_WAIT))
                }
            };
            let terms = Terms { berth: Berth::Aside, lock_wait };
            let (tells, tracks) = unzip(requests);
            match patiently(&self.engine, &tracks, &remedy, terms).await {
                Ok(advanced) => {
                    // One that was blamed for its failure is to be tried alone again.
                    if !matches!(remedy, Remedy::Blame(_)) {
                        for track in &tracks {
                            self.loners.forget(track.job.saga_id);
                        }
                    }
                    settle(&self.engine, tracks, tells, advanced);
                }
                Err(trouble) => {
                    let part = Part { requests: zip(tracks, tells), remedy };
                    parts.extend(self.respond(part, trouble, Berth::Aside));
                }
            }
        }
    }

    /// What is tried next, the last of them first.
    fn respond(&self, part: Part, trouble: Trouble, berth: Berth) -> Vec<Part> {
        match (part.only(), trouble) {
            (_, Trouble::Transient(error)) => {
                database_is_away(&self.engine, part.requests, &error);
                Vec::new()
            }
            (None, Trouble::Locked(error)) => {
                tracing::debug!(error = %error, "a batch waited for a lock in vain; splitting it");
                halves(part)
            }
            (None, Trouble::Step { error, .. }) => {
                tracing::debug!(error = ?error, "a batch failed; splitting it");
                halves(part)
            }
            // There is an answer of the outside world to be written.
            (Some(saga_id), Trouble::Locked(_)) if part.requests[0].track.called() => {
                self.loners.note(saga_id);
                vec![part]
            }
            (Some(saga_id), Trouble::Locked(error)) => {
                self.hold_up(saga_id, part.requests, &error);
                Vec::new()
            }
            // It had no more than a turn of its time.
            (Some(saga_id), Trouble::Step { midway: true, .. }) if berth == Berth::Lane => {
                self.loners.note(saga_id);
                vec![part]
            }
            (Some(saga_id), Trouble::Step { at, error, .. }) => {
                self.loners.note(saga_id);
                self.remedy(part, at, &error)
            }
        }
    }

    fn remedy(
        &self,
        part: Part,
        at: Option<(crate::status::Direction, usize)>,
        error: &[String],
    ) -> Vec<Part> {
        let Part { requests, remedy } = part;
        let track = &requests[0].track;
        let saga_id = track.job.saga_id;
        // What can't be written may be the answer of the call itself.
        let at = at.or_else(|| track.called_at());
        if let Some(remedy) = remedy.next(at, error.to_vec()) {
            if matches!(remedy, Remedy::Park(_)) {
                tracing::error!(saga.id = %saga_id, error = ?error, "a saga's outcome can't be written; it is parked");
            }
            return vec![Part { requests, remedy }];
        }
        tracing::error!(saga.id = %saga_id, error = ?error, "a saga can't even be parked; it is set aside");
        give_up(&self.engine, requests, SET_ASIDE, None);
        Vec::new()
    }

    /// Gives a saga back that needs a lock which somebody else holds: for a little longer each time, at no cost, and so
    /// that it shows.
    fn hold_up(&self, saga_id: SagaId, requests: Vec<Request>, error: &sqlx::Error) {
        let times = self.loners.held_up(saga_id);
        let definition = requests
            .first()
            .map_or_else(String::new, |request| request.track.job.definition_name.to_string());
        if times >= OFTEN {
            tracing::warn!(saga.id = %saga_id, saga.definition = definition, times, "a saga waits for a lock that somebody keeps");
        }
        metrics::counter!(HELD_UP, "definition" => definition).increment(1);
        let delay = crate::clock::jittered(doubled(HELD_UP_FOR, times, LONGEST_HELD_UP));
        let error = format!("waits for a lock that somebody else holds: {error}");
        give_up(&self.engine, requests, delay, Some(&error));
    }
}

fn doubled(first: Duration, times: u32, most: Duration) -> Duration {
    first.saturating_mul(1 << times.min(16)).min(most)
}

fn halves(part: Part) -> Vec<Part> {
    metrics::counter!("sagaline_set_splits_total").increment(1);
    let mut requests = part.requests;
    let second = requests.split_off(requests.len() / 2);
    vec![Part::whole(second), Part::whole(requests)]
}
