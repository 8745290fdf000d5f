//! The time-out of statements in endless tasks.

use std::time::Duration;

/// The time-out of a statement in a task that never ends. Without it, a statement on a connection that is dead without
/// a sign would wait for ever.
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);
