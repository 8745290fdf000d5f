//! Low-water marks: where this process begins to read the outbox and the event log.
//!
//! Rows leave both at the front. While a snapshot is held that is older than their deletion (by a dump, a long report,
//! or a forgotten transaction), vacuum can't remove them, and a reader that begins at the front walks over all of them.
//! A reader that begins at a mark does not. Each process keeps its own marks, in memory.
//!
//! **The event log:** ids are given in order and pruned from the front, so a pruned id never comes back.
//!
//! **The outbox:** an id is drawn before its transaction commits, so an event may appear below others that were moved
//! long ago. If the mark had passed it, younger events of its key would be moved before it. So the mark passes an id
//! only when it is settled, which means that every transaction that may have drawn it has ended. A transaction that
//! appends events holds a lock of the mode ROW EXCLUSIVE on the outbox, from before it draws its first id until it has
//! ended, and `pg_locks` lists these locks. First the last drawn id is read, then the holders; when none of these is
//! listed any more, the event of such an id is in every later snapshot or never will be. (The log of the sequence has to
//! be on disk as well: a crash would otherwise let ids of transactions that were rolled back be drawn again.) So a look
//! from the mark sees what a look at the whole outbox would see, and the order per key holds for the same reason as
//! without a mark: the events of a key are appended under the lock on the row that the key names (decision 0011).
//!
//! It follows that a transaction that has appended events and stays open stops the mark, and one that only holds a
//! snapshot does not. Every id has to come from the sequence, which must not cache; ids of another origin, and those of
//! prepared transactions, of which there are none here, may be passed. The whole outbox is therefore looked at now and
//! then, so that nothing can stay in it for ever.
//!
//! **The consumers:** the row of each is updated with every batch that it confirms, and its key leads to all of its dead
//! versions. The process that publishes to it remembers where it has put the living one.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use sqlx_macros::FromRow;

/// How often the mark of the outbox advances, at most.
const ADVANCE_INTERVAL: Duration = Duration::from_secs(1);
/// How often the whole outbox is looked at, at most.
const FULL_LOOK_INTERVAL: Duration = Duration::from_mins(1);
/// A full look takes at most one part in this many of the time.
const FULL_LOOK_SHARE: u32 = 100;

/// The low-water marks of one process. Cheap to clone; clones share the marks.
///
/// They hold for one database. New ones are at the front, so they are always safe to use.
#[derive(Clone, Debug)]
pub struct LowWaterMarks(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    advance_interval: Duration,
    full_look_interval: Duration,
    outbox: Mutex<OutboxMark>,
    event_log: Mutex<EventLogMark>,
    consumer_rows: Mutex<HashMap<String, String>>,
}

impl Default for LowWaterMarks {
    fn default() -> Self {
        Self::with_intervals(ADVANCE_INTERVAL, FULL_LOOK_INTERVAL)
    }
}

impl LowWaterMarks {
    /// Creates marks whose one for the outbox advances, and is not relied on, at these intervals at most.
    pub fn with_intervals(advance: Duration, full_look: Duration) -> Self {
        Self(Arc::new(Shared {
            advance_interval: advance,
            full_look_interval: full_look,
            outbox: Mutex::default(),
            event_log: Mutex::default(),
            consumer_rows: Mutex::default(),
        }))
    }

    pub(super) fn outbox(&self) -> OutboxMark {
        self.0.outbox.lock().clone()
    }

    /// Stores what one look found. Looks at the same time may overwrite each other: each result is right by itself.
    pub(super) fn set_outbox(&self, mark: OutboxMark) {
        *self.0.outbox.lock() = mark;
    }

    pub(super) fn event_log(&self) -> EventLogMark {
        *self.0.event_log.lock()
    }

    pub(super) fn set_event_log(&self, mark: EventLogMark) {
        *self.0.event_log.lock() = mark;
    }

    /// Where the row of a consumer was last (its `ctid`), if this process has written it.
    pub(super) fn consumer_row(&self, name: &str) -> Option<String> {
        self.0.consumer_rows.lock().get(name).cloned()
    }

    pub(super) fn set_consumer_row(&self, name: &str, row: Option<String>) {
        let mut rows = self.0.consumer_rows.lock();
        match row {
            Some(row) => drop(rows.insert(name.to_owned(), row)),
            None => drop(rows.remove(name)),
        }
    }

    /// Whether the writers of the outbox should be read now, to advance its mark.
    pub(super) fn advance_is_due(&self, mark: &OutboxMark) -> bool {
        mark.drawn >= mark.from && mark.advanced_at.is_none_or(|at| at.elapsed() >= self.0.advance_interval)
    }

    /// The id from which the next look at the outbox begins: that of the mark, or now and then the lowest. The next
    /// full look is planned before this one is made, so that one that takes too long does not keep the others from
    /// being made.
    pub(super) fn begin_look(&self, mark: &mut OutboxMark) -> i64 {
        let now = Instant::now();
        if mark.from > 0 && mark.full_look_at.is_some_and(|at| now < at) {
            return mark.from;
        }
        let next = now + self.0.full_look_interval;
        mark.full_look_at = Some(next);
        self.0.outbox.lock().full_look_at = Some(next);
        0
    }
}

/// The part of the event log that this process knows to be pruned.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct EventLogMark {
    pub(super) server_started_at: Option<DateTime<Utc>>,
    pub(super) pruned_through: i64,
}

/// What a look at the outbox found.
#[derive(Clone, Copy, Debug, FromRow)]
pub(super) struct OutboxFront {
    /// The event with the lowest id, from where the look began.
    pub(super) lowest: Option<i64>,
    /// The last id that was drawn, whether its transaction has committed or not.
    drawn: i64,
    /// When the server was started. On a server that has taken over, ids may be drawn again.
    server_started_at: DateTime<Utc>,
}

/// Where a look at the outbox begins, and what is needed to move that on.
#[derive(Clone, Debug, Default)]
pub(super) struct OutboxMark {
    /// No event with a lower id is in the outbox or will be.
    pub(super) from: i64,
    /// Every transaction that may have drawn this id or a lower one has ended.
    settled: i64,
    /// The last drawn id, as of the last look.
    drawn: i64,
    unsettled: Option<Unsettled>,
    server_started_at: Option<DateTime<Utc>>,
    advanced_at: Option<Instant>,
    full_look_at: Option<Instant>,
}

/// Ids that are settled when these transactions have ended and the log is on disk up to `logged`.
#[derive(Clone, Debug)]
struct Unsettled {
    through: i64,
    writers: Vec<String>,
    logged: i64,
}

/// What decides whether drawn ids are settled.
#[derive(Clone, Debug, FromRow)]
pub(super) struct OutboxWriters {
    /// The open transactions that may have drawn ids.
    pub(super) writers: Vec<String>,
    /// How much of the write-ahead log exists, in bytes.
    pub(super) logged: i64,
    /// How much of it is on disk.
    pub(super) flushed: i64,
}

impl OutboxMark {
    /// Notes who may have drawn ids. It was read after [`OutboxMark::drawn`], and before the next look.
    pub(super) fn note_writers(&mut self, now: &OutboxWriters) {
        self.advanced_at = Some(Instant::now());
        let before = self.unsettled.take();
        for mut unsettled in
            before.into_iter().chain((self.drawn > self.settled).then(|| self.drawn_since(now)))
        {
            unsettled.writers.retain(|writer| now.writers.contains(writer));
            if !unsettled.writers.is_empty() || now.flushed < unsettled.logged {
                self.unsettled = Some(unsettled);
                return;
            }
            self.settled = unsettled.through;
        }
    }

    fn drawn_since(&self, now: &OutboxWriters) -> Unsettled {
        Unsettled { through: self.drawn, writers: now.writers.clone(), logged: now.logged }
    }

    /// Whether the mark was made on this server, and no id that it has passed can be drawn again.
    pub(super) fn holds_for(&self, front: &OutboxFront) -> bool {
        self.server_started_at == Some(front.server_started_at) && self.drawn <= front.drawn
    }

    /// Forgets everything but when the next full look is due.
    pub(super) fn reset(&mut self) {
        *self = Self { full_look_at: self.full_look_at, ..Self::default() };
    }

    /// Notes the front of the outbox, and moves the mark there as far as ids are settled. A look from the lowest id may
    /// move it back; returns whether it does so.
    pub(super) fn note_front(&mut self, front: &OutboxFront) -> bool {
        let before = self.from;
        self.server_started_at = Some(front.server_started_at);
        self.drawn = front.drawn;
        self.from = front.lowest.unwrap_or(i64::MAX).min(self.settled.saturating_add(1));
        self.from < before
    }

    /// Plans the next full look after one that took this long.
    pub(super) fn plan_full_look(&mut self, took: Duration) {
        let earliest = Instant::now() + took * FULL_LOOK_SHARE;
        self.full_look_at = self.full_look_at.max(Some(earliest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: Duration = Duration::from_hours(1);

    fn front(lowest: Option<i64>, drawn: i64) -> OutboxFront {
        OutboxFront { lowest, drawn, server_started_at: DateTime::UNIX_EPOCH }
    }

    fn writers(names: &[&str]) -> OutboxWriters {
        let writers = names.iter().map(|&name| name.to_owned()).collect();
        OutboxWriters { writers, logged: 100, flushed: 100 }
    }

    #[test]
    fn the_mark_passes_an_id_when_every_transaction_that_may_have_drawn_it_has_ended() {
        let mut mark = OutboxMark::default();
        assert!(!mark.note_front(&front(None, 10)));
        assert_eq!(mark.from, 1, "nothing is settled yet");
        mark.note_writers(&writers(&["3/1", "4/1"]));
        mark.note_front(&front(None, 20));
        assert_eq!(mark.from, 1);
        // One of them goes on; a younger one does not matter.
        mark.note_writers(&writers(&["5/1", "4/1"]));
        mark.note_front(&front(None, 30));
        assert_eq!(mark.from, 1);
        mark.note_writers(&writers(&["5/1"]));
        mark.note_front(&front(None, 40));
        assert_eq!(mark.from, 11, "11 to 30 may have been drawn by 5/1");
        mark.note_writers(&writers(&["6/1"]));
        mark.note_front(&front(Some(25), 40));
        assert_eq!(mark.from, 25, "an event that waits is not passed");
        mark.note_writers(&writers(&[]));
        mark.note_front(&front(None, 50));
        assert_eq!(mark.from, 41, "41 to 50 were drawn after the look before");
    }

    #[test]
    fn the_mark_passes_an_id_when_a_crash_can_no_longer_undo_that_it_was_drawn() {
        let mut mark = OutboxMark::default();
        mark.note_front(&front(None, 10));
        for (logged, flushed, from) in [(120, 110, 1), (140, 119, 1), (150, 120, 11)] {
            mark.note_writers(&OutboxWriters { logged, flushed, ..writers(&[]) });
            mark.note_front(&front(None, 10));
            assert_eq!(mark.from, from, "logged through {logged}, on disk through {flushed}");
        }
    }

    #[test]
    fn a_look_at_the_whole_outbox_moves_the_mark_back_to_an_event_that_it_has_passed() {
        let mut mark = OutboxMark::default();
        mark.note_front(&front(None, 10));
        mark.note_writers(&writers(&[]));
        mark.note_front(&front(None, 10));
        assert_eq!(mark.from, 11);
        assert!(mark.note_front(&front(Some(4), 10)));
        assert_eq!(mark.from, 4);
    }

    #[test]
    fn a_mark_does_not_hold_on_another_server_or_when_ids_are_drawn_again() {
        let mut mark = OutboxMark::default();
        assert!(!mark.holds_for(&front(None, 10)), "a new one knows no server");
        mark.note_front(&front(None, 10));
        assert!(mark.holds_for(&front(None, 10)));
        assert!(!mark.holds_for(&front(None, 9)), "the database was restored");
        let restarted = OutboxFront { server_started_at: DateTime::<Utc>::MAX_UTC, ..front(None, 10) };
        assert!(!mark.holds_for(&restarted));
        mark.reset();
        assert_eq!(mark.from, 0);
    }

    #[test]
    fn a_full_look_is_made_first_and_again_after_its_interval() {
        let mut mark = OutboxMark::default();
        let marks = LowWaterMarks::with_intervals(NEVER, NEVER);
        assert_eq!(marks.begin_look(&mut mark), 0);
        mark.note_front(&front(None, 10));
        assert_eq!(marks.begin_look(&mut mark), 1);

        let (mut mark, always) =
            (OutboxMark::default(), LowWaterMarks::with_intervals(NEVER, Duration::ZERO));
        assert_eq!(always.begin_look(&mut mark), 0);
        mark.note_front(&front(None, 10));
        assert_eq!(always.begin_look(&mut mark), 0);
        mark.plan_full_look(Duration::from_mins(1));
        assert_eq!(always.begin_look(&mut mark), 1, "one that takes long is made more rarely");
    }
}
