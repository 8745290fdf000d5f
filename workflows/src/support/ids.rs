//! Ids that callers choose.

use std::time::Duration;

use uuid::Uuid;

/// How much the clocks of two processes may differ.
const MAX_CLOCK_DIFFERENCE: Duration = Duration::from_mins(5);

/// Whether the time in an id is later than that of its saga, which is new, by more than clocks may differ. What it names
/// would be the first in every list until then.
pub(crate) fn lies_ahead(id: Uuid, saga_id: Uuid) -> bool {
    let created_s = |id: Uuid| id.get_timestamp().map(|time| time.to_unix().0);
    let (Some(given), Some(started)) = (created_s(id), created_s(saga_id)) else { return false };
    given > started + MAX_CLOCK_DIFFERENCE.as_secs()
}
