//! How long a statement of a task that goes on for ever may take.

use std::time::Duration;

/// How long a statement of a task that goes on for ever may take. One that waits on a connection that has silently died
/// would never end.
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);
