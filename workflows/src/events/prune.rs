//! Throws away events that are old and that every target has.

use std::time::Duration;

use engine::with_timeout;
use sqlx::PgPool;

use super::STATEMENT_TIMEOUT;

/// Deletes up to `limit` events from the front of the log and says how many: those older than `retention` that every
/// registered target has confirmed. It stops at the first that is to be kept, so that the log never has holes.
///
/// # Errors
/// When the database refuses or is away.
pub async fn prune(pool: &PgPool, retention: Duration, limit: u32) -> Result<u64, sqlx::Error> {
    let query = sqlx::query(
        "with front as (
             select event_id, at from shop.event
             where event_id <= (select least(l.last_event_id, (select min(c.last_event_id) from shop.event_consumer c))
                                from shop.event_log l where l.only_one)
             order by event_id limit $2
         )
         delete from shop.event where event_id = any(array(
             select event_id from front
             where event_id < coalesce((select min(event_id) from front where at >= now() - make_interval(secs => $1)),
                                       9223372036854775807)))",
    )
    .bind(retention.as_secs_f64())
    .bind(i64::from(limit));
    let result = with_timeout(pool, STATEMENT_TIMEOUT, async |conn| query.execute(&mut **conn).await).await?;
    Ok(result.rows_affected())
}
