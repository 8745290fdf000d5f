//! The statement by which tests skip time.

use sqlx::PgPool;

use crate::model::ids::WorkerId;

/// Makes waiting sagas due, and ends the leases of a worker that is known to be dead.
pub(crate) async fn skip_waiting(pool: &PgPool, dead: Option<WorkerId>) -> Result<u64, sqlx::Error> {
    sqlx::query(
        "update engine.saga set due_at = now() \
         where status in ('running', 'compensating') and due_at > now() \
             and (lease_owner is null or lease_owner = $1::uuid)",
    )
    .bind(dead)
    .execute(pool)
    .await
    .map(|result| result.rows_affected())
}
