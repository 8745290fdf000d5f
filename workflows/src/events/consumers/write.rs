//! Registers consumers, leases them, and stores the positions that they have confirmed.

use std::time::Duration;

use engine::with_timeout;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::consumer::{ConsumerLease, ConsumerPosition, Replay};
use crate::events::{low_water_marks::LowWaterMarks, timeout::STATEMENT_TIMEOUT};

/// Registers a consumer, which starts at the oldest event that is kept. From now on pruning waits for it.
///
/// # Errors
/// When the database refuses or can't be reached.
pub async fn register(pool: &PgPool, name: &str) -> Result<(), sqlx::Error> {
    let query = sqlx::query(
        "insert into shop.event_consumer (name, last_event_id, started_after)
         select $1, e.pruned_through, e.pruned_through
         from (select coalesce((select min(event_id) - 1 from shop.event), last_event_id) as pruned_through
               from shop.event_log order by last_event_id desc limit 1) e
         on conflict (name) do nothing",
    )
    .bind(name);
    with_timeout(pool, STATEMENT_TIMEOUT, async |conn| query.execute(&mut **conn).await).await?;
    Ok(())
}

/// Takes or renews the lease for publishing to a consumer; `None` if another process holds it or the consumer is not
/// registered. `holder` is an id that the calling process made for itself.
///
/// # Errors
/// When the database refuses or can't be reached.
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
         returning name, epoch, last_event_id, started_after, series, previous_series, previous_event_id",
    )
    .bind(name)
    .bind(holder)
    .bind(lease.as_secs_f64());
    with_timeout(pool, STATEMENT_TIMEOUT, async |conn| query.fetch_optional(&mut **conn).await).await
}

/// Stores that the consumer has confirmed all events up to `last_event_id`, and renews the lease. Returns false, and
/// stores nothing, if another process holds the lease now or a person has changed the position.
///
/// # Errors
/// When the database refuses or can't be reached.
pub async fn advance(
    pool: &PgPool,
    marks: &LowWaterMarks,
    claim: &ConsumerLease,
    last_event_id: i64,
    lease: Duration,
) -> Result<bool, sqlx::Error> {
    with_timeout(pool, STATEMENT_TIMEOUT, async |conn| {
        let known = marks.consumer_row(&claim.name);
        let mut row = advance_row(conn, known.as_deref(), claim, last_event_id, lease).await?;
        if row.is_none() && known.is_some() {
            row = advance_row(conn, None, claim, last_event_id, lease).await?;
        }
        marks.set_consumer_row(&claim.name, row.clone());
        Ok(row.is_some())
    })
    .await
}

macro_rules! advance_row {
    ($at:literal) => {
        concat!(
            "update shop.event_consumer
             set last_event_id = $3, updated_at = now(), lease_until = now() + make_interval(secs => $4)
             where name = $1 and epoch = $2 and last_event_id <= $3",
            $at,
            " returning ctid::text"
        )
    };
}

/// Advances the row at this place, or wherever it is; returns its new place. A row is at its place until it is updated.
async fn advance_row(
    conn: &mut PgConnection,
    at: Option<&str>,
    claim: &ConsumerLease,
    last_event_id: i64,
    lease: Duration,
) -> Result<Option<String>, sqlx::Error> {
    let sql = if at.is_some() { advance_row!(" and ctid = $5::text::tid") } else { advance_row!("") };
    let mut query = sqlx::query_scalar(sql)
        .bind(&claim.name)
        .bind(claim.epoch)
        .bind(last_event_id)
        .bind(lease.as_secs_f64());
    if let Some(at) = at {
        query = query.bind(at);
    }
    query.fetch_optional(conn).await
}

/// Moves a consumer back to an earlier position, because it has lost what came after it. Returns false as [`advance`]
/// does.
///
/// # Errors
/// When the database refuses or can't be reached.
pub async fn rewind(pool: &PgPool, claim: &ConsumerLease, last_event_id: i64) -> Result<bool, sqlx::Error> {
    let query = sqlx::query(
        "update shop.event_consumer
         set last_event_id = $3, started_after = least(started_after, $3), updated_at = now()
         where name = $1 and epoch = $2",
    )
    .bind(&claim.name)
    .bind(claim.epoch)
    .bind(last_event_id);
    let result = with_timeout(pool, STATEMENT_TIMEOUT, async |conn| query.execute(&mut **conn).await).await?;
    Ok(result.rows_affected() > 0)
}

/// Starts a new series after the consumer's position, with a number above `beyond`. Returns false as [`advance`] does.
///
/// # Errors
/// When the database refuses or can't be reached.
pub async fn start_series(pool: &PgPool, claim: &ConsumerLease, beyond: i64) -> Result<bool, sqlx::Error> {
    let query = sqlx::query(
        "update shop.event_consumer
         set previous_series = case when last_event_id > started_after then series else previous_series end,
             previous_event_id = case when last_event_id > started_after then last_event_id else previous_event_id end,
             series = greatest($3 + 1, (extract(epoch from clock_timestamp()) * 1000)::bigint),
             started_after = last_event_id, epoch = epoch + 1, lease_until = '-infinity'
         where name = $1 and epoch = $2",
    )
    .bind(&claim.name)
    .bind(claim.epoch)
    .bind(beyond);
    let result = with_timeout(pool, STATEMENT_TIMEOUT, async |conn| query.execute(&mut **conn).await).await?;
    Ok(result.rows_affected() > 0)
}

/// Releases the lease, so that another process can take it at once.
///
/// # Errors
/// When the database refuses or can't be reached; the lease lapses then.
pub async fn release(pool: &PgPool, claim: &ConsumerLease) -> Result<(), sqlx::Error> {
    let query = sqlx::query(
        "update shop.event_consumer set lease_until = '-infinity' where name = $1 and epoch = $2",
    )
    .bind(&claim.name)
    .bind(claim.epoch);
    with_timeout(pool, STATEMENT_TIMEOUT, async |conn| query.execute(&mut **conn).await).await?;
    Ok(())
}

pub(crate) async fn delete(
    conn: &mut PgConnection,
    name: &str,
) -> Result<Option<ConsumerPosition>, sqlx::Error> {
    sqlx::query_as("delete from shop.event_consumer where name = $1 returning last_event_id, series")
        .bind(name)
        .fetch_optional(conn)
        .await
}

/// Locks a consumer, and returns whether a process publishes to it now.
pub(crate) async fn lock_use(conn: &mut PgConnection, name: &str) -> Result<Option<bool>, sqlx::Error> {
    sqlx::query_scalar(
        "select lease_until >= clock_timestamp() from shop.event_consumer where name = $1 for update",
    )
    .bind(name)
    .fetch_optional(conn)
    .await
}

pub(crate) async fn lock(
    conn: &mut PgConnection,
    name: &str,
) -> Result<Option<ConsumerPosition>, sqlx::Error> {
    sqlx::query_as("select last_event_id, series from shop.event_consumer where name = $1 for update")
        .bind(name)
        .fetch_optional(conn)
        .await
}

pub(crate) async fn begin_again(
    conn: &mut PgConnection,
    name: &str,
    from: Replay,
) -> Result<ConsumerPosition, sqlx::Error> {
    let (from_id, from_time) = match from {
        Replay::From(event_id) => (Some(event_id), None),
        Replay::Since(time) => (None, Some(time)),
    };
    sqlx::query_as(
        "with log as (
             select coalesce((select min(event_id) - 1 from shop.event), last_event_id) as pruned_through, last_event_id
             from shop.event_log order by last_event_id desc limit 1
         ), start as (
             select least(greatest(coalesce($2 - 1, (select min(event_id) - 1 from shop.event where at >= $3),
                                            last_event_id), pruned_through), last_event_id) as started_after
             from log
         )
         update shop.event_consumer c
         set previous_series = case when c.last_event_id > c.started_after then c.series else c.previous_series end,
             previous_event_id =
                 case when c.last_event_id > c.started_after then c.last_event_id else c.previous_event_id end,
             last_event_id = start.started_after, started_after = start.started_after,
             series = greatest(c.series + 1, (extract(epoch from clock_timestamp()) * 1000)::bigint),
             epoch = c.epoch + 1, lease_until = '-infinity', updated_at = now()
         from start where c.name = $1
         returning c.last_event_id, c.series",
    )
    .bind(name)
    .bind(from_id)
    .bind(from_time)
    .fetch_one(conn)
    .await
}
