//! What a proof has found.

use std::fmt;

use sqlx::PgPool;

use crate::{
    model::{
        error::{BuildError, DeadJobError, StartError, StepError},
        ids::SagaId,
        status::Direction,
        views::{FinalStatus, HistoryEntry, HistoryOutcome},
    },
    support::bounded_list::ListError,
    testing::proof::case::Case,
};

/// One saga of a case, for the caller's own checks.
#[derive(Clone, Debug)]
pub struct Run {
    /// The case that was run.
    pub case: Case,
    /// The id of the saga.
    pub saga_id: SagaId,
    /// Whether it is one that the fault struck.
    pub is_struck: bool,
    /// The status in which the saga ended or died.
    pub final_status: FinalStatus,
    /// The database that it ran on.
    pub pool: PgPool,
    /// The saga's history.
    pub history: Vec<HistoryEntry>,
}

impl Run {
    /// How often a step's action took effect, less its undos.
    pub fn effects_of(&self, step: &str) -> i64 {
        let done = |direction| {
            let matches = |entry: &&HistoryEntry| {
                entry.step == step && entry.direction == direction && entry.outcome == HistoryOutcome::Done
            };
            i64::try_from(self.history.iter().filter(matches).count()).unwrap_or(i64::MAX)
        };
        done(Direction::Action) - done(Direction::Undo)
    }
}

/// What does not hold. A flaw of a step shows in many cases: they are one violation if it shows in the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The first case in which it was seen.
    pub case: Case,
    /// What does not hold, in a sentence.
    pub what: String,
    /// What was seen in that case, if the sentence does not say it.
    pub details: Option<String>,
    /// The other cases in which it was seen.
    pub also_in: Vec<Case>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.case, self.what)?;
        if let Some(details) = &self.details {
            write!(f, ": {details}")?;
        }
        match self.also_in.len() {
            0 => Ok(()),
            more => write!(f, " (and in {more} more cases)"),
        }
    }
}

/// The result of a proof.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The cases that were run.
    pub cases: Vec<Case>,
    /// The violations, in the order in which they were found.
    pub violations: Vec<Violation>,
}

impl Report {
    /// Adds a case that was run.
    pub(super) fn add(&mut self, case: &Case, notes: Vec<Note>) {
        self.cases.push(case.clone());
        self.find(case, notes);
    }

    /// Adds what does not hold in a case.
    pub(super) fn find(&mut self, case: &Case, notes: Vec<Note>) {
        for Note { what, details } in notes {
            match self.violations.iter_mut().find(|violation| violation.what == what) {
                None => {
                    let (case, also_in) = (case.clone(), Vec::new());
                    self.violations.push(Violation { case, what, details, also_in });
                }
                Some(known) if known.case != *case && !known.also_in.contains(case) => {
                    known.also_in.push(case.clone());
                }
                Some(_) => {}
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} cases, {} violations", self.cases.len(), self.violations.len())?;
        self.violations.iter().try_for_each(|violation| writeln!(f, "  {violation}"))
    }
}

/// What does not hold in a case.
#[derive(Debug)]
pub(super) struct Note {
    what: String,
    details: Option<String>,
}

impl Note {
    pub(super) fn with(what: impl Into<String>, details: impl Into<String>) -> Self {
        Self { what: what.into(), details: Some(details.into()) }
    }
}

impl<S: Into<String>> From<S> for Note {
    fn from(what: S) -> Self {
        Self { what: what.into(), details: None }
    }
}

/// Why a proof could not be run.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// The saga is not among the definitions.
    #[error("no saga is named `{0}`")]
    UnknownSaga(String),
    /// The engine could not be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A saga could not be started.
    #[error("the saga could not be started")]
    Start(#[from] StartError),
    /// The sagas of a batch could not be started.
    #[error("the sagas could not be started")]
    Starts(#[from] StepError),
    /// The database refused a statement or can't be reached.
    #[error("the database refused")]
    Database(#[from] sqlx::Error),
    /// The sagas or the dead jobs could not be listed.
    #[error(transparent)]
    List(#[from] ListError),
    /// A dead job could not be retried or discarded.
    #[error(transparent)]
    DeadJob(#[from] DeadJobError),
}
