//! Reasons that people give for what they do.

use crate::http::{Problem, invalid};

/// Checks a reason that a person gives.
pub(crate) fn check_reason(reason: &str) -> Result<(), Problem> {
    shop::check_reason("/reason", reason).map_or(Ok(()), |wrong| Err(invalid(vec![wrong])))
}
