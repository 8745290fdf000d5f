//! Moves events from the outbox into the log, and prunes it.

use std::time::Duration;

use engine::with_timeout;
use sqlx::{Connection, PgConnection, PgPool};

use super::timeout::STATEMENT_TIMEOUT;

/// What one round of [`sequence`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequenced {
    /// So many events got their ids; more may wait when that is the limit.
    Moved(u64),
    /// Another process is at it.
    Busy,
}

/// Moves up to `limit` committed events from the outbox into the log. Any number of processes may call it; one at a time
/// gets to do it.
///
/// # Errors
/// When the database refuses or is away; a round is done as a whole or not at all.
pub async fn sequence(pool: &PgPool, limit: u32) -> Result<Sequenced, sqlx::Error> {
    with_timeout(pool, STATEMENT_TIMEOUT, async |conn| round(conn, limit).await).await
}

async fn round(conn: &mut PgConnection, limit: u32) -> Result<Sequenced, sqlx::Error> {
    // Without a transaction, because mostly there is nothing.
    let waits: bool =
        sqlx::query_scalar("select exists (select from shop.outbox)").fetch_one(&mut *conn).await?;
    if !waits {
        return Ok(Sequenced::Moved(0));
    }
    let mut tx = conn.begin().await?;
    // `singleton` has an index: on connections without sequential scans, reading the row without it is priced as if it
    // were millions, and compiled.
    // Two statements: the second one's snapshot has to be younger than the lock, so that it sees what the round before
    // moved.
    let last: Option<i64> = sqlx::query_scalar(
        "select last_event_id from shop.event_log where singleton for no key update skip locked",
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(last) = last else { return Ok(Sequenced::Busy) };
    let moved: i64 = sqlx::query_scalar(
        "with taken as (
             delete from shop.outbox where event_id = any(array(
                 select event_id from shop.outbox order by event_id limit $1))
             returning event_id, at, routing_key, key, payload
         ), logged as (
             insert into shop.event (event_id, at, routing_key, key, payload)
             select $2 + row_number() over (order by event_id), at, routing_key, key, payload from taken
             returning event_id
         ), counted as (
             update shop.event_log set last_event_id = $2 + (select count(*) from logged) where singleton
         )
         select count(*) from logged",
    )
    .bind(i64::from(limit))
    .bind(last)
    .fetch_one(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(Sequenced::Moved(moved.unsigned_abs()))
}

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
                                from shop.event_log l where l.singleton)
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
