//! What a session of the database may do.

use sqlx::{Executor, Postgres, Row};

/// Whether a session refuses writes: its server is a standby, or its operators have made it read-only.
///
/// It costs one round trip, as it is sent without being prepared.
///
/// # Errors
/// When the session is lost.
pub async fn is_read_only<'c>(session: impl Executor<'c, Database = Postgres>) -> Result<bool, sqlx::Error> {
    let row = sqlx::raw_sql("show transaction_read_only").fetch_one(session).await?;
    Ok(row.try_get::<&str, _>(0)? == "on")
}
