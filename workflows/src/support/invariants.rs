//! Checks the invariants of a live database.
//!
//! [`check`] reads everything on one snapshot. [`survey`] reads a large database in ranges of ids, so that no snapshot
//! lasts long; unless it is asked for everything, it reads what is unfinished, what is new, and a random sample.

mod coverage;
mod file;
mod read;
mod result;
mod survey;

pub use coverage::{Coverage, Progress};
pub use read::{check, check_in};
pub use result::InvariantResult;
pub use survey::{Extent, SurveyOptions, survey};
