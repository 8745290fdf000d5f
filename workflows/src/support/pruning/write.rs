//! Lets one process at a time delete.

use sqlx::PgConnection;

/// Takes the lock on deleting these rows until the end of the transaction; `false` if another transaction has it.
pub(super) async fn try_lock(conn: &mut PgConnection, rows: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select pg_try_advisory_xact_lock(hashtextextended('prune ' || $1, 0))")
        .bind(rows)
        .fetch_one(conn)
        .await
}
