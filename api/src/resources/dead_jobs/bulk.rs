//! Which dead jobs a request acts on, and how far it goes.

use engine::{BulkLimits, DeadJobFilter, DiscardMode};
use std::time::Duration;

use super::body::DeadJobSelection;
use crate::{extract::StrictObject, http::Problem};

/// The most that are retried or discarded by one request.
const MAX_BULK: u32 = 1000;

/// Half of what a request may take: the caller is to hear which ones were done.
const BULK_TIMEOUT: Duration = Duration::from_secs(10);

/// How far one request goes.
pub(super) fn bulk(limit: u32) -> BulkLimits {
    BulkLimits { max_jobs: limit, time_limit: BULK_TIMEOUT }
}

/// Checks what a request about many says about which.
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

/// What `force` means.
pub(super) fn discard_mode(force: bool) -> DiscardMode {
    if force { DiscardMode::Force } else { DiscardMode::Safe }
}
