//! Sagas that can't move because of something outside: a lock that another transaction holds, or a step that hangs.
//!
//! Such a saga is given back to the database with a due time far away, and takes up no slot. The sagas that the same
//! obstacle holds up form a group, of which one at a time is tried (see [`scouts`](super::scouts)). When that one gets
//! through, more of the group follow, in growing batches. Losing this memory costs time only: each saga comes back by
//! itself when it is due.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::model::{ids::SagaId, status::StepSide};

/// When a saga that is held up comes back by itself.
pub(super) const COMES_BACK: Duration = Duration::from_mins(1);
/// The pause after a scout that was held up, which doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// By how much the next batch is larger than one that got through.
const GROWTH: usize = 4;
/// Upper bound of remembered sagas. Others only come back by themselves.
const MAX_TRACKED: usize = 100_000;

/// What holds sagas up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Obstacle {
    /// A lock that this side of a step needs; with the PID of the session that holds it, where the server tells.
    Lock { side: StepSide, holder: Option<i32> },
    /// This side of a step did not end within the time that a batch has.
    Slow { side: StepSide },
}

impl Obstacle {
    /// The word under which metrics count it.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Lock { .. } => "lock",
            Self::Slow { .. } => "slow",
        }
    }
}

/// The sagas of one definition that are held up.
#[derive(Debug, Default)]
pub(super) struct HeldUp {
    state: Mutex<State>,
    /// Notified when a saga is added.
    pub(super) added: Notify,
}

#[derive(Debug, Default)]
struct State {
    groups: HashMap<Obstacle, Group>,
    by_saga: HashMap<SagaId, Member>,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    /// Where the saga stood when it was held up. If it stands elsewhere, somebody decided about it in the meantime.
    side: StepSide,
    obstacle: Obstacle,
}

#[derive(Debug)]
struct Group {
    waiting: VecDeque<SagaId>,
    batch: usize,
    pause: Duration,
    next: Instant,
    scouting: bool,
}

/// What became of the scouts of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scouted {
    GotThrough,
    HeldUp,
}

impl HeldUp {
    /// Adds a saga that stands at `side`.
    pub(super) fn insert(&self, saga_id: SagaId, side: StepSide, obstacle: Obstacle) {
        let mut state = self.state.lock();
        state.remove(saga_id);
        if state.by_saga.len() >= MAX_TRACKED {
            return;
        }
        state.by_saga.insert(saga_id, Member { side, obstacle });
        let group = state.groups.entry(obstacle).or_insert_with(|| Group {
            waiting: VecDeque::new(),
            batch: 1,
            pause: FIRST_PAUSE,
            next: Instant::now(),
            scouting: false,
        });
        group.waiting.push_back(saga_id);
        drop(state);
        self.added.notify_one();
    }

    /// Whether a saga that stands at `side` is known to be held up there. One that stands elsewhere is forgotten. One of
    /// which it is not known who holds the lock may be in a group that it does not belong to, so it is tried whenever it
    /// comes back.
    pub(super) fn holds(&self, saga_id: SagaId, side: StepSide) -> bool {
        let mut state = self.state.lock();
        match state.by_saga.get(&saga_id) {
            Some(member) if member.side == side => {
                !matches!(member.obstacle, Obstacle::Lock { holder: None, .. })
            }
            Some(_) => {
                state.remove(saga_id);
                false
            }
            None => false,
        }
    }

    pub(super) fn remove(&self, saga_id: SagaId) {
        self.state.lock().remove(saga_id);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.state.lock().by_saga.is_empty()
    }

    /// How many sagas are held up, by kind.
    pub(super) fn counts(&self) -> [(&'static str, usize); 2] {
        let state = self.state.lock();
        let count = |kind| {
            let groups = state.groups.iter().filter(|(obstacle, _)| obstacle.kind() == kind);
            (kind, groups.map(|(_, group)| group.waiting.len()).sum())
        };
        ["lock", "slow"].map(count)
    }

    /// All sagas that are held up.
    pub(super) fn all(&self) -> Vec<SagaId> {
        self.state.lock().by_saga.keys().copied().collect()
    }

    /// The sagas to be tried now, at most one batch of each group. They rotate: who waited longest is first.
    pub(super) fn take_scouts(&self, max_batch: usize) -> Vec<(Obstacle, Vec<SagaId>)> {
        let now = Instant::now();
        let mut state = self.state.lock();
        let due = state
            .groups
            .iter_mut()
            .filter(|(_, group)| !group.scouting && group.next <= now && !group.waiting.is_empty());
        due.map(|(obstacle, group)| {
            group.scouting = true;
            let count = match obstacle {
                Obstacle::Lock { .. } => group.batch.min(max_batch),
                // Each may take its whole time-out.
                Obstacle::Slow { .. } => 1,
            };
            let count = count.min(group.waiting.len());
            let scouts: Vec<_> = group.waiting.drain(..count).collect();
            group.waiting.extend(&scouts);
            (*obstacle, scouts)
        })
        .collect()
    }

    /// Ends the turn of a group's scouts.
    pub(super) fn scouted(&self, obstacle: Obstacle, scouted: Scouted) {
        let mut state = self.state.lock();
        let Some(group) = state.groups.get_mut(&obstacle) else { return };
        group.scouting = false;
        match scouted {
            Scouted::GotThrough => {
                group.batch = group.batch.saturating_mul(GROWTH);
                group.pause = FIRST_PAUSE;
                group.next = Instant::now();
            }
            Scouted::HeldUp => {
                group.batch = 1;
                group.next = Instant::now() + group.pause;
                group.pause = (group.pause * 2).min(MAX_PAUSE);
            }
        }
        if group.waiting.is_empty() {
            state.groups.remove(&obstacle);
        }
    }
}

impl State {
    fn remove(&mut self, saga_id: SagaId) {
        let Some(member) = self.by_saga.remove(&saga_id) else { return };
        if let Some(group) = self.groups.get_mut(&member.obstacle) {
            // Scouts are at the back, and of the others the first is the likeliest.
            if group.waiting.back() == Some(&saga_id) {
                group.waiting.pop_back();
            } else if let Some(at) = group.waiting.iter().position(|waiting| *waiting == saga_id) {
                group.waiting.remove(at);
            }
            if group.waiting.is_empty() && !group.scouting {
                self.groups.remove(&member.obstacle);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::status::Direction;

    const SIDE: StepSide = StepSide { direction: Direction::Action, step_index: 1 };
    const LOCK: Obstacle = Obstacle::Lock { side: SIDE, holder: Some(7) };

    fn held_up(count: usize) -> (HeldUp, Vec<SagaId>) {
        let held_up = HeldUp::default();
        let sagas: Vec<_> = (0..count).map(|_| SagaId::generate()).collect();
        for saga in &sagas {
            held_up.insert(*saga, SIDE, LOCK);
        }
        (held_up, sagas)
    }

    #[test]
    fn one_saga_of_a_group_is_tried_at_a_time_and_they_rotate() {
        let (held_up, sagas) = held_up(3);
        assert_eq!(held_up.take_scouts(256), [(LOCK, vec![sagas[0]])]);
        assert_eq!(held_up.take_scouts(256), [], "the scout is under way");
        held_up.scouted(LOCK, Scouted::HeldUp);
        assert_eq!(held_up.take_scouts(256), [], "there is a pause");
        held_up.state.lock().groups.get_mut(&LOCK).unwrap().next = Instant::now();
        assert_eq!(held_up.take_scouts(256), [(LOCK, vec![sagas[1]])]);
    }

    #[test]
    fn once_a_scout_gets_through_the_others_follow_in_growing_batches() {
        let (held_up, sagas) = held_up(12);
        let mut tried = Vec::new();
        for size in [1, 4, 7] {
            let scouts = held_up.take_scouts(256).remove(0).1;
            assert_eq!(scouts.len(), size);
            for saga in &scouts {
                held_up.remove(*saga);
            }
            tried.extend(scouts);
            held_up.scouted(LOCK, Scouted::GotThrough);
        }
        assert_eq!(tried, sagas);
        assert!(held_up.is_empty());
        assert!(held_up.state.lock().groups.is_empty());
    }

    #[test]
    fn obstacles_are_told_apart_by_who_holds_the_lock() {
        let (held_up, sagas) = held_up(1);
        let other = Obstacle::Lock { side: SIDE, holder: Some(8) };
        let saga = SagaId::generate();
        held_up.insert(saga, SIDE, other);
        let mut scouts = held_up.take_scouts(256);
        scouts.sort_by_key(|(_, scouts)| scouts[0] != sagas[0]);
        assert_eq!(scouts, [(LOCK, vec![sagas[0]]), (other, vec![saga])]);
        // It meets another holder now.
        held_up.insert(sagas[0], SIDE, other);
        held_up.scouted(LOCK, Scouted::HeldUp);
        assert_eq!(held_up.counts(), [("lock", 2), ("slow", 0)]);
        assert_eq!(held_up.state.lock().groups.len(), 1);
    }

    #[test]
    fn a_saga_that_stands_elsewhere_is_not_held_up_any_more() {
        let (held_up, sagas) = held_up(1);
        assert!(held_up.holds(sagas[0], SIDE));
        let undo = StepSide { direction: Direction::Undo, step_index: 0 };
        assert!(!held_up.holds(sagas[0], undo));
        assert!(held_up.is_empty());
    }
}
