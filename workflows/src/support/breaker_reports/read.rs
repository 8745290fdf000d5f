//! Lists the breakers of all processes.

use std::time::Duration;

use sqlx::PgPool;

use super::report::{ReportedBreaker, millis};

/// A process that has not reported for this long is left out.
const STALE_AFTER: Duration = Duration::from_secs(30);

/// Lists the breakers of all running processes, by dependency and process.
///
/// # Errors
/// When the database refuses or can't be reached.
pub async fn list(pool: &PgPool) -> Result<Vec<ReportedBreaker>, sqlx::Error> {
    sqlx::query_as(
        "select process_id, process, dependency, state, failures, opened_at, next_probe_at, threshold, open_ms, probes,
                changed_at, seen_at
         from shop.circuit_breaker where seen_at > clock_timestamp() - $1 * interval '1 ms'
         order by dependency, process, process_id",
    )
    .bind(millis(STALE_AFTER))
    .fetch_all(pool)
    .await
}
