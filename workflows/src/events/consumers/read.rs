//! Lists the consumers of events.

use sqlx::PgPool;

use super::consumer::Consumer;

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
