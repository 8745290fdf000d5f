//! Moves events from the outbox into the event log, and prunes it.

use std::time::Duration;

use engine::with_timeout;
use sqlx::{Connection, PgConnection, PgPool};

use super::{
    event::LogRange,
    low_water_marks::LowWaterMarks,
    read::{look, range},
    timeout::STATEMENT_TIMEOUT,
};

/// What one round of [`sequence`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequenced {
    /// The number of events that got an id; if it is the limit, more may be waiting.
    Moved(u64),
    /// Another process is sequencing.
    Busy,
}

/// Moves up to `limit` committed events from the outbox into the event log. Any number of processes may call it; a lock
/// lets one at a time do it.
///
/// # Errors
/// When the database refuses or can't be reached; nothing was moved then.
pub async fn sequence(pool: &PgPool, marks: &LowWaterMarks, limit: u32) -> Result<Sequenced, sqlx::Error> {
    with_timeout(pool, STATEMENT_TIMEOUT, async |conn| round(conn, marks, limit).await).await
}

async fn round(conn: &mut PgConnection, marks: &LowWaterMarks, limit: u32) -> Result<Sequenced, sqlx::Error> {
    // Checked without a transaction, because mostly nothing waits.
    let outbox = look(conn, marks).await?;
    if !outbox.waits {
        return Ok(Sequenced::Moved(0));
    }
    let mut tx = conn.begin().await?;
    // The newest value comes first: the index has an entry for every dead version that a snapshot keeps.
    // Two statements: the snapshot of the second one has to be younger than the lock, so that it sees what the previous
    // round moved.
    let last: Option<i64> = sqlx::query_scalar(
        "select last_event_id from shop.event_log order by last_event_id desc limit 1 for update skip locked",
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(last) = last else { return Ok(Sequenced::Busy) };
    let moved: i64 = sqlx::query_scalar(
        "with taken as (
             delete from shop.outbox where event_id = any(array(
                 select event_id from shop.outbox where event_id >= $3 order by event_id limit $1))
             returning event_id, at, routing_key, key, payload
         ), logged as (
             insert into shop.event (event_id, at, routing_key, key, payload)
             select $2 + row_number() over (order by event_id), at, routing_key, key, payload from taken
             returning event_id
         ), counted as (
             update shop.event_log set last_event_id = $2 + (select count(*) from logged) where last_event_id = $2
         )
         select count(*) from logged",
    )
    .bind(i64::from(limit))
    .bind(last)
    .bind(outbox.from)
    .fetch_one(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(Sequenced::Moved(moved.unsigned_abs()))
}

/// Deletes up to `limit` events from the start of the event log, and returns how many: those older than `retention`
/// that every registered consumer has confirmed. It stops at the first event that is not due, so the event log has no
/// holes.
///
/// # Errors
/// When the database refuses or can't be reached.
pub async fn prune(
    pool: &PgPool,
    marks: &LowWaterMarks,
    retention: Duration,
    limit: u32,
) -> Result<u64, sqlx::Error> {
    with_timeout(pool, STATEMENT_TIMEOUT, async |conn| {
        let LogRange { pruned_through, .. } = range(conn, marks).await?;
        prune_after(conn, pruned_through, retention, limit).await
    })
    .await
}

async fn prune_after(
    conn: &mut PgConnection,
    pruned_through: i64,
    retention: Duration,
    limit: u32,
) -> Result<u64, sqlx::Error> {
    let result = sqlx::query(
        "with front as (
             select event_id, at from shop.event
             where event_id > $3
               and event_id <= (select least(l.last_event_id, (select min(c.last_event_id) from shop.event_consumer c))
                                from shop.event_log l order by l.last_event_id desc limit 1)
             order by event_id limit $2
         )
         delete from shop.event where event_id = any(array(
             select event_id from front
             where event_id < coalesce((select min(event_id) from front where at >= now() - make_interval(secs => $1)),
                                       9223372036854775807)))",
    )
    .bind(retention.as_secs_f64())
    .bind(i64::from(limit))
    .bind(pruned_through)
    .execute(conn)
    .await?;
    Ok(result.rows_affected())
}
