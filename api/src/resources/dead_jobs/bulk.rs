//! The selection and the limits of a bulk action on dead jobs.

use engine::{BulkLimits, DeadJobFilter, DiscardMode};

use super::body::DeadJobSelection;
use crate::{
    extract::StrictObject,
    http::Problem,
    resources::bulk_plan::{TIME_LIMIT, check_limit},
};

/// The bounds of one request.
pub(super) fn bulk(limit: u32) -> BulkLimits {
    BulkLimits { max_jobs: limit, time_limit: TIME_LIMIT }
}

/// Checks the selection of a bulk request.
///
/// # Errors
/// A 422 when the limit or a text is out of bounds.
pub(super) fn selected(filter: StrictObject<DeadJobSelection>, limit: u32) -> Result<DeadJobFilter, Problem> {
    check_limit(limit)?;
    let StrictObject(filter) = filter;
    if filter.error_contains.as_ref().is_some_and(|text| text.chars().count() > 200) {
        return Err(Problem::field(
            "/filter/error_contains",
            "wrong-length",
            "must have at most 200 characters",
        ));
    }
    Ok(filter.into())
}

/// How `force` discards.
pub(super) fn discard_mode(force: bool) -> DiscardMode {
    if force { DiscardMode::Force } else { DiscardMode::Safe }
}
