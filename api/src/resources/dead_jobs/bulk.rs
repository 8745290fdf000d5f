//! The selection and the limits of a bulk action on dead jobs.

use engine::{BulkLimits, DeadJobFilter, DiscardMode};
use std::time::Duration;

use super::body::DeadJobSelection;
use crate::{extract::StrictObject, http::Problem};

/// How many dead jobs one request retries or discards at most.
const MAX_BULK: u32 = 1000;

/// Half of the request time-out, so that the caller learns which ones were done.
const BULK_TIMEOUT: Duration = Duration::from_secs(10);

/// The bounds of one request.
pub(super) fn bulk(limit: u32) -> BulkLimits {
    BulkLimits { max_jobs: limit, time_limit: BULK_TIMEOUT }
}

/// Checks the selection of a bulk request.
///
/// # Errors
/// A 422 when the limit or a text is out of bounds.
pub(super) fn selected(filter: StrictObject<DeadJobSelection>, limit: u32) -> Result<DeadJobFilter, Problem> {
    if !(1..=MAX_BULK).contains(&limit) {
        return Err(Problem::field("/limit", "out-of-range", format!("must be from 1 to {MAX_BULK}")));
    }
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
