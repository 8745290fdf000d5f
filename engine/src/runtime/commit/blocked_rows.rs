//! Rows for which sagas are held up because another transaction has locked them, as far as steps name the rows that they
//! lock ([`TransactionStep::locks`](crate::TransactionStep::locks)). A saga that wants such a row is held up without
//! being tried, so that a row for which new sagas arrive all the time costs the others nothing.
//!
//! PostgreSQL does not tell which row a transaction waited for. If a saga wants one row, it is that row. If it wants
//! several, sagas that want the same rows are held up, and each of the rows is suspected until another saga gets through
//! with it. Losing this memory costs time only.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::runtime::commit::held_up::Obstacle;

/// The most rows that are remembered; all are forgotten when there are more.
const MAX_REMEMBERED: usize = 10_000;

/// The rows that are locked, of one definition.
#[derive(Debug, Default)]
pub(super) struct BlockedRows(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Sets of rows, by the index of the step that locks them, of which one at least is locked. A set of one row blocks every
    /// saga that wants the row; another, those that want the same rows.
    locked: HashMap<(usize, Vec<String>), Obstacle>,
    /// The rows of sets with several rows.
    suspected: HashMap<(usize, String), Obstacle>,
}

/// What is known about the rows that a saga wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowState {
    /// Nothing speaks against trying it.
    Free,
    /// Another transaction may have locked one of them.
    Suspected,
    /// Another transaction has locked one of them.
    Locked(Obstacle),
}

impl BlockedRows {
    pub(super) fn is_empty(&self) -> bool {
        let state = self.0.lock();
        state.locked.is_empty() && state.suspected.is_empty()
    }

    /// What is known about these rows, which this step locks.
    pub(super) fn state(&self, step_index: usize, rows: &[String]) -> RowState {
        let state = self.0.lock();
        if let Some(obstacle) = state.locked.get(&(step_index, rows.to_vec())) {
            return RowState::Locked(*obstacle);
        }
        if let Some((_, obstacle)) = state.locked_row(step_index, rows) {
            return RowState::Locked(obstacle);
        }
        if rows.iter().any(|row| state.suspected.contains_key(&(step_index, row.clone()))) {
            RowState::Suspected
        } else {
            RowState::Free
        }
    }

    /// Notes that a saga which wants these rows was alone, and waited for a lock in vain.
    pub(super) fn held_up(&self, step_index: usize, rows: &[String], obstacle: Obstacle) {
        if rows.is_empty() {
            return;
        }
        let mut state = self.0.lock();
        if state.locked.len() + state.suspected.len() + rows.len() >= MAX_REMEMBERED {
            *state = State::default();
        }
        if let Some((row, _)) = state.locked_row(step_index, rows) {
            // Perhaps somebody else holds it now.
            state.locked.insert((step_index, vec![row]), obstacle);
            return;
        }
        state.locked.insert((step_index, rows.to_vec()), obstacle);
        if rows.len() == 1 {
            return;
        }
        let keys: Vec<_> = rows.iter().map(|row| (step_index, row.clone())).collect();
        let in_common: Vec<_> =
            keys.iter().filter(|key| state.suspected.contains_key(*key)).cloned().collect();
        if let [(_, row)] = in_common.as_slice() {
            state.locked.insert((step_index, vec![row.clone()]), obstacle);
        } else {
            state.suspected.extend(keys.into_iter().map(|key| (key, obstacle)));
        }
    }

    /// Notes that a saga got through with these rows.
    pub(super) fn got_through(&self, step_index: usize, rows: &[String]) {
        let mut state = self.0.lock();
        state.locked.remove(&(step_index, rows.to_vec()));
        for row in rows {
            state.suspected.remove(&(step_index, row.clone()));
            state.locked.remove(&(step_index, vec![row.clone()]));
        }
    }

    /// Forgets the rows that this obstacle blocks: it is gone for at least one saga.
    pub(super) fn forget(&self, obstacle: Obstacle) {
        let mut state = self.0.lock();
        state.locked.retain(|_, by| *by != obstacle);
        state.suspected.retain(|_, by| *by != obstacle);
    }
}

impl State {
    /// The first of these rows that is known to be locked.
    fn locked_row(&self, step_index: usize, rows: &[String]) -> Option<(String, Obstacle)> {
        rows.iter().find_map(|row| {
            let obstacle = self.locked.get(&(step_index, vec![row.clone()]))?;
            Some((row.clone(), *obstacle))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::status::{Direction, StepSide};

    const SIDE: StepSide = StepSide { direction: Direction::Action, step_index: 1 };
    const LOCK: Obstacle = Obstacle::Lock { side: SIDE, holder: Some(7) };
    const OTHER: Obstacle = Obstacle::Lock { side: SIDE, holder: Some(8) };

    fn rows(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_only_row_of_a_saga_that_is_held_up_is_locked() {
        let blocked = BlockedRows::default();
        blocked.held_up(1, &rows(&["tea"]), LOCK);
        assert_eq!(blocked.state(1, &rows(&["cup", "tea"])), RowState::Locked(LOCK));
        assert_eq!(blocked.state(1, &rows(&["cup"])), RowState::Free);
        assert_eq!(blocked.state(2, &rows(&["tea"])), RowState::Free, "another step");
        blocked.held_up(1, &rows(&["cup", "tea"]), OTHER);
        assert_eq!(blocked.state(1, &rows(&["cup"])), RowState::Free, "the known row explains it");
        assert_eq!(blocked.state(1, &rows(&["tea"])), RowState::Locked(OTHER));
        blocked.forget(LOCK);
        assert!(!blocked.is_empty());
        blocked.forget(OTHER);
        assert!(blocked.is_empty());
    }

    #[test]
    fn of_several_rows_each_is_suspected_until_sagas_tell_them_apart() {
        let blocked = BlockedRows::default();
        blocked.held_up(1, &rows(&["tea", "cup"]), LOCK);
        assert_eq!(blocked.state(1, &rows(&["tea", "cup"])), RowState::Locked(LOCK), "the same rows");
        assert_eq!(blocked.state(1, &rows(&["cup", "jug"])), RowState::Suspected);
        blocked.got_through(1, &rows(&["cup", "jug"]));
        assert_eq!(blocked.state(1, &rows(&["cup"])), RowState::Free);
        assert_eq!(blocked.state(1, &rows(&["tea"])), RowState::Suspected);
        blocked.held_up(1, &rows(&["tea", "jug"]), LOCK);
        assert_eq!(blocked.state(1, &rows(&["tea"])), RowState::Locked(LOCK), "two sagas have it in common");
        assert_eq!(blocked.state(1, &rows(&["jug"])), RowState::Free);
    }

    #[test]
    fn sagas_that_name_no_row_teach_nothing() {
        let blocked = BlockedRows::default();
        blocked.held_up(1, &[], LOCK);
        assert!(blocked.is_empty());
        assert_eq!(blocked.state(1, &[]), RowState::Free);
    }

    #[test]
    fn the_memory_is_bounded() {
        let blocked = BlockedRows::default();
        for row in 0..MAX_REMEMBERED * 2 {
            blocked.held_up(1, &[row.to_string()], LOCK);
        }
        assert!(blocked.0.lock().locked.len() < MAX_REMEMBERED);
    }
}
