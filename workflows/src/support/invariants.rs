//! Checks of a live database against what is promised.

mod read;

pub use read::{InvariantResult, check, check_in};
