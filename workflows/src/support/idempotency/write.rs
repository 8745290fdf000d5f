//! Claims keys, stores responses, and releases keys.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{
    super::pruned_batch::PrunedBatch,
    response::{IN_FLIGHT_TIMEOUT, RETENTION, RecordedResponse},
};

/// Creates an entry, or takes over an expired or lost one; `None` if another request holds it.
pub(super) async fn claim(
    pool: &PgPool,
    key: &str,
    scope: &str,
    body_hash: &[u8],
    holder: Uuid,
) -> Result<Option<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "insert into shop.idempotency_key as k (scope, key, body_hash, resource_id, holder)
         values ($1, $2, $3, $4, $4)
         on conflict (scope, key) do update
         set body_hash = excluded.body_hash, holder = excluded.holder, started_at = now(), status = null, location = null, body = null,
             resource_id = case when k.created_at < now() - make_interval(secs => $5)
                                then excluded.resource_id else k.resource_id end,
             created_at = case when k.created_at < now() - make_interval(secs => $5) then now() else k.created_at end
         where k.created_at < now() - make_interval(secs => $5)
            or (k.status is null and k.started_at < now() - make_interval(secs => $6)
                and k.body_hash = excluded.body_hash)
         returning resource_id",
    )
    .bind(scope)
    .bind(key)
    .bind(body_hash)
    .bind(holder)
    .bind(RETENTION.as_secs_f64())
    .bind(IN_FLIGHT_TIMEOUT.as_secs_f64())
    .fetch_optional(pool)
    .await
}

/// Stores the response to a request that `begin` found fresh. A second call changes nothing.
///
/// # Errors
/// When the database refuses or can't be reached. Until the response is stored the request counts as in flight, for a
/// minute at most.
pub async fn finish(
    pool: &PgPool,
    key: &str,
    scope: &str,
    holder: Uuid,
    answer: &RecordedResponse,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update shop.idempotency_key set status = $4, location = $5, body = $6
         where scope = $1 and key = $2 and holder = $3 and status is null",
    )
    .bind(scope)
    .bind(key)
    .bind(holder)
    .bind(i16::try_from(answer.status).unwrap_or(i16::MAX))
    .bind(&answer.location)
    .bind(&answer.body)
    .execute(pool)
    .await?;
    Ok(())
}

/// Releases the key of a request that `begin` found fresh and that has no response to store, or whose `begin` failed.
/// The request can be repeated at once. Its resource id stays, because the failure may have come after the commit.
///
/// # Errors
/// As [`finish`].
pub async fn abandon(pool: &PgPool, key: &str, scope: &str, holder: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update shop.idempotency_key set started_at = '-infinity'
         where scope = $1 and key = $2 and holder = $3 and status is null",
    )
    .bind(scope)
    .bind(key)
    .bind(holder)
    .execute(pool)
    .await?;
    Ok(())
}

/// Deletes up to `limit` expired responses, the oldest first, of those that were created at `after` or later.
pub(in crate::support) async fn delete_expired(
    conn: &mut PgConnection,
    after: Option<DateTime<Utc>>,
    limit: u32,
) -> Result<PrunedBatch, sqlx::Error> {
    sqlx::query_as(
        "with deleted as (
             delete from shop.idempotency_key where ctid = any(array(
                 select ctid from shop.idempotency_key
                 where created_at < now() - make_interval(secs => $1) and created_at >= coalesce($2, '-infinity')
                 order by created_at limit $3 for update skip locked))
             returning created_at)
         select count(*) as deleted, max(created_at) as through from deleted",
    )
    .bind(RETENTION.as_secs_f64())
    .bind(after)
    .bind(i64::from(limit))
    .fetch_one(conn)
    .await
}
