//! How far each target has confirmed events, and which process publishes to it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use engine::with_timeout;
use sqlx::PgPool;
use sqlx_macros::FromRow;
use uuid::Uuid;

use super::STATEMENT_TIMEOUT;

/// The right to publish to one target, for as long as its lease is renewed.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct ConsumerLease {
    /// The target's name.
    pub name: String,
    /// The fence: what is done under an older epoch changes nothing.
    pub epoch: i64,
    /// The last event that the target has confirmed.
    pub last_event_id: i64,
    /// The event after which the target began to be filled.
    pub begun_after: i64,
    /// When it began, in milliseconds since 1970.
    pub series: i64,
    /// The series before this one, if the target has confirmed anything in it.
    pub previous_series: Option<i64>,
    /// The last event that the target has confirmed in that one.
    pub previous_event_id: Option<i64>,
}

/// A registered target.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct Consumer {
    /// Its name.
    pub name: String,
    /// The last event that it has confirmed.
    pub last_event_id: i64,
    /// Whether a process publishes to it now.
    pub claimed: bool,
    /// When it was first heard of.
    pub registered_at: DateTime<Utc>,
    /// When its position last changed.
    pub updated_at: DateTime<Utc>,
}

/// Makes a target known, which begins before the oldest event that is kept. From now on events wait for it.
///
/// # Errors
/// When the database refuses or is away.
pub async fn register(pool: &PgPool, name: &str) -> Result<(), sqlx::Error> {
    let query = sqlx::query(
        "insert into shop.event_consumer (name, last_event_id, begun_after)
         select $1, e.pruned_through, e.pruned_through
         from (select coalesce((select min(event_id) - 1 from shop.event), last_event_id) as pruned_through
               from shop.event_log where only_one) e
         on conflict (name) do nothing",
    )
    .bind(name);
    with_timeout(pool, STATEMENT_TIMEOUT, async |conn| query.execute(&mut **conn).await).await?;
    Ok(())
}

/// Takes the right to publish to a target, or renews it; `None` while another process has it, or when the target is not
/// registered. `holder` is a fresh id of the asking process.
///
/// # Errors
/// When the database refuses or is away.
pub async fn claim(
    pool: &PgPool,
    name: &str,
    holder: Uuid,
    lease: Duration,
) -> Result<Option<ConsumerLease>, sqlx::Error> {
    let query = sqlx::query_as(
        "update shop.event_consumer
         set epoch = epoch + case when holder = $2 and lease_until >= now() then 0 else 1 end,
             holder = $2, lease_until = now() + make_interval(secs => $3)
         where name = $1 and (holder = $2 or lease_until < now())
         returning name, epoch, last_event_id, begun_after, series, previous_series, previous_event_id",
    )
    .bind(name)
    .bind(holder)
    .bind(lease.as_secs_f64());
    with_timeout(pool, STATEMENT_TIMEOUT, async |conn| query.fetch_optional(&mut **conn).await).await
}

/// Notes that the target has confirmed everything up to `last_event_id`, and renews the lease. False when the claim is
/// somebody else's by now or the position was changed by a person: then nothing was noted.
///
/// # Errors
/// When the database refuses or is away.
pub async fn advance(
    pool: &PgPool,
    claim: &ConsumerLease,
    last_event_id: i64,
    lease: Duration,
) -> Result<bool, sqlx::Error> {
    let query = sqlx::query(
        "update shop.event_consumer
         set last_event_id = $3, updated_at = now(), lease_until = now() + make_interval(secs => $4)
         where name = $1 and epoch = $2 and last_event_id <= $3",
    )
    .bind(&claim.name)
    .bind(claim.epoch)
    .bind(last_event_id)
    .bind(lease.as_secs_f64());
    let result = with_timeout(pool, STATEMENT_TIMEOUT, async |conn| query.execute(&mut **conn).await).await?;
    Ok(result.rows_affected() > 0)
}

/// Goes back to an earlier position, because the target has lost what came after it. False as for [`advance`].
///
/// # Errors
/// When the database refuses or is away.
pub async fn rewind(pool: &PgPool, claim: &ConsumerLease, last_event_id: i64) -> Result<bool, sqlx::Error> {
    let query = sqlx::query(
        "update shop.event_consumer
         set last_event_id = $3, begun_after = least(begun_after, $3), updated_at = now()
         where name = $1 and epoch = $2",
    )
    .bind(&claim.name)
    .bind(claim.epoch)
    .bind(last_event_id);
    let result = with_timeout(pool, STATEMENT_TIMEOUT, async |conn| query.execute(&mut **conn).await).await?;
    Ok(result.rows_affected() > 0)
}

/// Begins a new series after the target's position, later than `beyond`. False as for [`advance`].
///
/// # Errors
/// When the database refuses or is away.
pub async fn start_series(pool: &PgPool, claim: &ConsumerLease, beyond: i64) -> Result<bool, sqlx::Error> {
    let query = sqlx::query(
        "update shop.event_consumer
         set previous_series = case when last_event_id > begun_after then series else previous_series end,
             previous_event_id = case when last_event_id > begun_after then last_event_id else previous_event_id end,
             series = greatest($3 + 1, (extract(epoch from clock_timestamp()) * 1000)::bigint),
             begun_after = last_event_id, epoch = epoch + 1, lease_until = '-infinity'
         where name = $1 and epoch = $2",
    )
    .bind(&claim.name)
    .bind(claim.epoch)
    .bind(beyond);
    let result = with_timeout(pool, STATEMENT_TIMEOUT, async |conn| query.execute(&mut **conn).await).await?;
    Ok(result.rows_affected() > 0)
}

/// Gives the right to publish back, so that another process can take it at once.
///
/// # Errors
/// When the database refuses or is away; then the lease lapses.
pub async fn release(pool: &PgPool, claim: &ConsumerLease) -> Result<(), sqlx::Error> {
    let query = sqlx::query(
        "update shop.event_consumer set lease_until = '-infinity' where name = $1 and epoch = $2",
    )
    .bind(&claim.name)
    .bind(claim.epoch);
    with_timeout(pool, STATEMENT_TIMEOUT, async |conn| query.execute(&mut **conn).await).await?;
    Ok(())
}

/// Lists the registered targets by name.
///
/// # Errors
/// When the database refuses or is away.
pub async fn consumers(pool: &PgPool) -> Result<Vec<Consumer>, sqlx::Error> {
    sqlx::query_as(
        "select name, last_event_id, lease_until >= now() as claimed, registered_at, updated_at
         from shop.event_consumer order by name",
    )
    .fetch_all(pool)
    .await
}
