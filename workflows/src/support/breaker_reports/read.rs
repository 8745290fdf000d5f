//! Lists the breakers of all processes.

use std::time::Duration;

use sqlx::PgPool;

use super::report::{ReportedBreaker, millis};

/// A process that has not told for this long is taken to be gone.
const STALE_AFTER: Duration = Duration::from_secs(30);

/// Lists the breakers of the processes that run, by dependency and process.
///
/// # Errors
/// When the database refuses or is away.
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
