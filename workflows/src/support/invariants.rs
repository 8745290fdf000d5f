//! Checks the invariants of a live database.

mod read;

pub use read::{InvariantResult, check, check_in};
