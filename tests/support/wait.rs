//! The upper bound of every wait in the tests.

use std::time::Duration;

/// Ends a wait that would otherwise never end. It is far longer than the slowest machine needs, so no result depends on
/// it.
pub(crate) const WAIT_TIMEOUT: Duration = Duration::from_mins(5);
