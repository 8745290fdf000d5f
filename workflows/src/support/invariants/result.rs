//! The result of one invariant.

use serde::Serialize;

use super::file::Section;

/// The most violations that are listed for one invariant.
const MAX_LISTED: usize = 20;

/// The result of one invariant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InvariantResult {
    /// The invariant's number.
    pub number: u8,
    /// The statement that has to hold.
    pub name: String,
    /// The violations, up to twenty; empty if the invariant holds.
    pub violations: Vec<String>,
}

impl InvariantResult {
    /// Whether the invariant holds.
    pub fn holds(&self) -> bool {
        self.violations.is_empty()
    }
}

/// The violations of one invariant, while it is being checked.
#[derive(Debug)]
pub(super) struct Findings {
    number: u8,
    name: String,
    listed: Vec<String>,
    more: usize,
}

impl Findings {
    pub(super) fn new(number: u8, name: impl Into<String>) -> Self {
        Self { number, name: name.into(), listed: Vec::new(), more: 0 }
    }

    pub(super) fn of(section: &Section) -> Self {
        Self::new(section.number, section.name)
    }

    pub(super) fn add(&mut self, violations: impl IntoIterator<Item = String>) {
        for violation in violations {
            if self.listed.len() < MAX_LISTED {
                self.listed.push(violation);
            } else {
                self.more += 1;
            }
        }
    }

    pub(super) fn into_result(mut self) -> InvariantResult {
        if self.more > 0 {
            self.listed.push(format!("and {} more", self.more));
        }
        InvariantResult { number: self.number, name: self.name, violations: self.listed }
    }
}
