//! How far a long call has come: what its step reports, and what is shown of it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::model::nul_character::replace_nul;

/// How far a call has come, in a unit that its step chooses: files, rows, bytes, per cent. A step reports it with
/// [`Item::report_progress`](crate::Item::report_progress).
///
/// ```
/// use engine::Progress;
///
/// let files = ["a", "b", "c"];
/// let progress = Progress::of(1, files.len()).note("uploading b");
/// assert_eq!((progress.done(), progress.total()), (1, Some(3)));
/// assert_eq!(Progress::so_far(4096).total(), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    done: u64,
    total: Option<u64>,
    note: Option<String>,
}

impl Progress {
    /// The most bytes of a note; a longer one is cut between two characters.
    pub const MAX_NOTE: usize = 200;

    /// So much of so much. A total that is smaller than what is done is taken to be as large; a number below zero is taken
    /// for zero.
    pub fn of(done: impl TryInto<u64>, total: impl TryInto<u64>) -> Self {
        let done = bounded(done);
        Self { done, total: Some(bounded(total).max(done)), note: None }
    }

    /// So much, of a total that is not known.
    pub fn so_far(done: impl TryInto<u64>) -> Self {
        Self { done: bounded(done), total: None, note: None }
    }

    /// Adds a few words for people, such as what is being done now.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        let mut note = replace_nul(note.into());
        note.truncate(note.floor_char_boundary(Self::MAX_NOTE));
        self.note = Some(note);
        self
    }

    /// How much is done.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// How much there is to do, if that is known.
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// What [`Progress::note`] has added, as it is stored.
    pub fn noted(&self) -> Option<&str> {
        self.note.as_deref()
    }
}

/// The number as PostgreSQL's `bigint` can store it.
fn bounded(number: impl TryInto<u64>) -> u64 {
    number.try_into().unwrap_or(0).min(i64::MAX.unsigned_abs())
}

/// The newest progress that the call of a saga has reported, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedProgress {
    /// How much is done, in a unit that the step chooses.
    pub done: u64,
    /// How much there is to do; `None` if the step does not know.
    pub total: Option<u64>,
    /// A few words of the step, for people.
    pub note: Option<String>,
    /// The attempt that reported it. It is an earlier one than the saga's while that has reported nothing yet.
    pub attempt: u32,
    /// When the step reported it, by the database's clock.
    pub at: DateTime<Utc>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_cut_between_characters_and_has_no_nul() {
        let noted = |note: &str| Progress::so_far(1).note(note).noted().map(str::to_owned).unwrap();
        assert_eq!(noted("a\0b"), "a\u{fffd}b");
        assert_eq!(noted(&"茶".repeat(100)), "茶".repeat(66));
        assert_eq!(noted(&"\0".repeat(100)), "\u{fffd}".repeat(66), "it is cut after NULs have grown");
    }

    #[test]
    fn every_number_can_be_stored() {
        let largest = i64::MAX.unsigned_abs();
        assert_eq!(Progress::of(u64::MAX, 3), Progress::of(largest, largest));
        assert_eq!(Progress::of(12, 10), Progress::of(12, 12));
        assert_eq!(Progress::of(-1, 10_usize), Progress::of(0, 10));
    }
}
