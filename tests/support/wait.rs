//! How long a test waits for what must happen.

use std::time::Duration;

/// Ends a wait that would otherwise last for ever. It is far beyond what the slowest machine needs, so no outcome depends
/// on it.
pub(crate) const WAIT_TIMEOUT: Duration = Duration::from_mins(5);
