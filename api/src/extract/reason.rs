//! The reason that a person gives for a change.

use crate::http::{Problem, invalid};

/// Checks the reason of a change.
///
/// # Errors
/// A 422 when it is too long or has control characters.
pub(crate) fn check_reason(reason: &str) -> Result<(), Problem> {
    shop::bounds::REASON.violation("/reason", reason).map_or(Ok(()), |wrong| Err(invalid(vec![wrong])))
}
