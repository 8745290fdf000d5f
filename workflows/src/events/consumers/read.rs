//! Lists the consumers of events.

use engine::with_timeout;
use sqlx::PgPool;

use super::consumer::Consumer;
use crate::events::timeout::STATEMENT_TIMEOUT;

/// Whether a consumer is registered.
///
/// # Errors
/// When the database refuses or can't be reached.
pub async fn is_registered(pool: &PgPool, name: &str) -> Result<bool, sqlx::Error> {
    let query =
        sqlx::query_scalar("select exists (select from shop.event_consumer where name = $1)").bind(name);
    with_timeout(pool, STATEMENT_TIMEOUT, async |conn| query.fetch_one(&mut **conn).await).await
}

/// Lists the registered consumers, by name.
///
/// # Errors
/// When the database refuses or can't be reached.
pub async fn consumers(pool: &PgPool) -> Result<Vec<Consumer>, sqlx::Error> {
    sqlx::query_as(
        "select name, last_event_id, lease_until >= now() as claimed, registered_at, updated_at
         from shop.event_consumer order by name",
    )
    .fetch_all(pool)
    .await
}
