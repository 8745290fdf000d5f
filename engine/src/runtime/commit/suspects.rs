//! Finds out whether a saga is at fault for errors that may pass by themselves.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{model::ids::SagaId, support::connection::Blame};

/// A saga is at fault once it has failed so often alone while other transactions were committed.
const ROUNDS: u32 = 4;
/// Without other transactions to compare with, a saga is at fault once it has failed alone for this long.
const UNCOMPARED: Duration = Duration::from_mins(2);
/// Upper bound of remembered sagas; the map is cleared when it is reached.
const MAX_TRACKED: usize = 10_000;

/// The sagas that failed alone with an error that may pass, until they are committed. Losing this memory gives them more
/// tries.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    known: Mutex<HashMap<SagaId, Suspect>>,
}

#[derive(Clone, Copy, Debug)]
struct Suspect {
    since: Instant,
    rounds: u32,
    /// The rounds before which another transaction was committed.
    compared: u32,
    /// The number of commits of this process at the last failure.
    commits: u64,
}

/// What is known about a saga that failed alone once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may be innocent, and has failed this often.
    Open(u32),
    AtFault,
}

impl Suspects {
    /// Counts a failure of a saga that was tried alone. `commits` is the number of transactions that this process has
    /// committed so far.
    pub(super) fn count(&self, saga_id: SagaId, blame: Blame, commits: u64) -> Verdict {
        let now = Instant::now();
        let mut known = self.known.lock();
        if known.len() >= MAX_TRACKED && !known.contains_key(&saga_id) {
            known.clear();
        }
        let suspect = known.entry(saga_id).or_insert(Suspect { since: now, rounds: 0, compared: 0, commits });
        suspect.count(blame, commits, now)
    }

    pub(super) fn forget(&self, saga_id: SagaId) {
        self.known.lock().remove(&saga_id);
    }
}

impl Suspect {
    fn count(&mut self, blame: Blame, commits: u64, now: Instant) -> Verdict {
        self.rounds += 1;
        self.compared += u32::from(commits > self.commits);
        self.commits = commits;
        let compared = self.compared >= ROUNDS;
        let at_fault = match blame {
            Blame::Connection | Blame::Lock => false,
            Blame::Server => compared,
            Blame::Unclear | Blame::Statement => {
                compared || (self.rounds > ROUNDS && now - self.since >= UNCOMPARED)
            }
        };
        if at_fault { Verdict::AtFault } else { Verdict::Open(self.rounds) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suspect(now: Instant) -> Suspect {
        Suspect { since: now, rounds: 0, compared: 0, commits: 7 }
    }

    #[test]
    fn a_saga_that_fails_while_others_are_committed_is_at_fault() {
        let now = Instant::now();
        for (blame, at_fault) in [(Blame::Unclear, true), (Blame::Server, true), (Blame::Connection, false)] {
            let mut suspect = suspect(now);
            let verdicts: Vec<_> = (7..=11).map(|commits| suspect.count(blame, commits, now)).collect();
            assert_eq!(verdicts[3], Verdict::Open(4), "{blame:?}");
            assert_eq!(verdicts[4] == Verdict::AtFault, at_fault, "{blame:?}");
        }
    }

    #[test]
    fn while_nothing_is_committed_nobody_is_at_fault_at_first_and_never_for_the_server() {
        let now = Instant::now();
        for (blame, at_last) in [(Blame::Unclear, Verdict::AtFault), (Blame::Server, Verdict::Open(101))] {
            let mut suspect = suspect(now);
            for round in 1..=100 {
                assert_eq!(suspect.count(blame, 7, now), Verdict::Open(round), "{blame:?}");
            }
            assert_eq!(suspect.count(blame, 7, now + UNCOMPARED), at_last, "{blame:?}");
        }
    }
}
