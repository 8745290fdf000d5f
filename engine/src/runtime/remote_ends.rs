//! What this process knows about ends in other processes: whether others are to be asked to tell them, and whether they
//! do so reliably that the poll may be slow.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::runtime::hints::TELL_FOR;

/// How long the poll stays quick after it found an end that nobody had told.
const DOUBT: Duration = Duration::from_secs(10);
/// The shortest time between two announcements.
const ANNOUNCE_GAP: Duration = Duration::from_secs(1);

/// Whether others tell this process of ends.
#[derive(Debug, Default)]
pub(crate) struct RemoteEnds(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Whether this process listens.
    listens: bool,
    /// When the last end was told that somebody here waited for.
    told: Option<Instant>,
    /// When the poll last found an end that should have been told.
    missed: Option<Instant>,
    /// When somebody here last waited for a saga that others may move.
    needed: Option<Instant>,
    /// When this process last told the others that it waits, and when it has to do so again.
    announced: Option<(Instant, Instant)>,
}

impl RemoteEnds {
    /// Notes whether this process listens for ends from now on.
    pub(crate) fn set_listening(&self, listens: bool) {
        let mut state = self.0.lock();
        state.listens = listens;
        state.told = None;
    }

    /// Notes that an end was told that somebody here waited for.
    pub(crate) fn told(&self, now: Instant) {
        let mut state = self.0.lock();
        state.told = Some(now);
        state.needed = Some(now);
    }

    /// Notes that the poll found an end that should have been told: a process that moves sagas may not know that this
    /// one waits.
    pub(crate) fn missed(&self, now: Instant) {
        let mut state = self.0.lock();
        state.missed = Some(now);
        state.announce_again();
    }

    /// Notes that somebody here waits for a saga that others may move.
    pub(crate) fn needed(&self, now: Instant) {
        self.0.lock().needed = Some(now);
    }

    /// Notes that another process asks who waits.
    pub(crate) fn asked(&self) {
        self.0.lock().announce_again();
    }

    /// Whether to tell the others now that this process waits; if so, it counts as told.
    pub(crate) fn must_announce(&self, now: Instant) -> bool {
        let mut state = self.0.lock();
        let is_needed = state.needed.is_some_and(|needed| now < needed + TELL_FOR);
        let is_due = state.announced.is_none_or(|(_, again)| now >= again);
        let must = state.listens && is_needed && is_due;
        if must {
            state.announced = Some((now, now + TELL_FOR / 3));
        }
        must
    }

    /// Whether ends are told, as far as is known, so that the poll may be slow.
    pub(crate) fn are_told(&self, now: Instant) -> bool {
        let state = self.0.lock();
        let lately = state.told.is_some_and(|told| now < told + TELL_FOR);
        lately && state.missed.is_none_or(|missed| now >= missed + DOUBT && state.told > Some(missed))
    }
}

impl State {
    fn announce_again(&mut self) {
        if let Some((announced, again)) = &mut self.announced {
            *again = (*again).min(*announced + ANNOUNCE_GAP);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_announcement_is_made_while_it_is_needed_and_renewed() {
        let (ends, start) = (RemoteEnds::default(), Instant::now());
        ends.needed(start);
        assert!(!ends.must_announce(start), "nothing would be heard");
        ends.set_listening(true);
        assert!(ends.must_announce(start));
        assert!(!ends.must_announce(start + 9 * SECOND));
        assert!(ends.must_announce(start + 10 * SECOND));
        assert!(!ends.must_announce(start + 30 * SECOND), "nobody waited any more");
        ends.needed(start + 31 * SECOND);
        assert!(ends.must_announce(start + 31 * SECOND));
    }

    #[test]
    fn an_announcement_that_somebody_missed_is_made_again_but_not_in_a_storm() {
        let (ends, start) = (RemoteEnds::default(), Instant::now());
        ends.set_listening(true);
        ends.needed(start);
        assert!(ends.must_announce(start));
        ends.asked();
        ends.missed(start);
        assert!(!ends.must_announce(start + SECOND / 2));
        assert!(ends.must_announce(start + SECOND));
        assert!(!ends.must_announce(start + 2 * SECOND));
    }

    #[test]
    fn the_poll_may_be_slow_only_while_ends_are_told_and_none_is_missed() {
        let (ends, start) = (RemoteEnds::default(), Instant::now());
        ends.set_listening(true);
        assert!(!ends.are_told(start));
        ends.told(start);
        assert!(ends.are_told(start));
        ends.missed(start + SECOND);
        ends.told(start + 2 * SECOND);
        assert!(!ends.are_told(start + 3 * SECOND));
        assert!(ends.are_told(start + 11 * SECOND));
        assert!(!ends.are_told(start + 32 * SECOND), "the last one was told long ago");
        ends.told(start + 33 * SECOND);
        ends.set_listening(false);
        assert!(!ends.are_told(start + 33 * SECOND));
    }
}
