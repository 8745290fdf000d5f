//! The log of events: what was in the outbox, with the ids that consumers follow.
//!
//! Transactions append to the outbox side by side and commit in any order, so the outbox's own ids tell a reader nothing
//! about what is still to come. [`sequence`] moves what is committed into the log, one round after the other, and gives
//! ids there: without gaps, and visible in their order. A reader needs to remember one number, [`Event::event_id`].
//! Decision 0011 says why that keeps the order per key.

mod consumers;
mod lag;
mod operate;
mod prune;
mod topics;

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use engine::with_timeout;
use serde_json::value::RawValue;
use sqlx::{Connection, PgConnection, PgPool, types::Json};
use sqlx_macros::FromRow;

pub use consumers::{
    Consumer, ConsumerLease, advance, claim, consumers, register, release, rewind, start_series,
};
pub use lag::{ConsumerLag, Lag, lag};
pub use operate::{Replay, remove, replay};
pub use prune::prune;
pub use topics::{Topics, TopicsError};

/// How long a statement of a task that goes on for ever may take. One that waits on a connection that has silently died
/// would never end.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// An event as its consumers get it.
#[derive(Debug, FromRow)]
pub struct Event {
    /// Its number in the log: unique, growing, without gaps.
    pub event_id: i64,
    /// When the change that it tells was made.
    pub at: DateTime<Utc>,
    /// What happened, such as `order.confirmed`.
    pub routing_key: String,
    /// What it happened to (an order's id, a SKU); events with the same key come in the order in which they happened.
    pub key: String,
    /// What it tells, as JSON.
    payload: Json<Box<RawValue>>,
}

impl Event {
    /// [`Event::at`] in RFC 3339, to the microsecond.
    pub fn at_rfc3339(&self) -> String {
        self.at.to_rfc3339_opts(SecondsFormat::Micros, true)
    }

    /// What it tells, as JSON on one line.
    pub fn payload(&self) -> &str {
        self.payload.0.get()
    }
}

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
    // `only_one` has an index: on connections without sequential scans, reading the row without it is priced as if it
    // were millions, and compiled.
    // Two statements: the second one's snapshot has to be younger than the lock, so that it sees what the round before
    // moved.
    let last: Option<i64> = sqlx::query_scalar(
        "select last_event_id from shop.event_log where only_one for no key update skip locked",
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
             update shop.event_log set last_event_id = $2 + (select count(*) from logged) where only_one
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

/// How much is read at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSize {
    /// The most events.
    pub events: u32,
    /// With the event that brings the payloads to this many bytes, the page ends.
    pub bytes: u32,
}

/// Events that follow each other.
#[derive(Debug, Default)]
pub struct EventPage {
    /// In the order of their ids.
    pub events: Vec<Event>,
    /// Whether its size ended it, so that there may be more.
    pub is_full: bool,
}

/// Reads the page behind `after`; empty at the end of the log.
///
/// # Errors
/// When the database refuses or is away, or gives no answer in ten seconds.
pub async fn read(pool: &PgPool, after: i64, size: PageSize) -> Result<EventPage, sqlx::Error> {
    let query = sqlx::query_as(
        "select event_id, at, routing_key, key, payload
         from (select event_id, at, routing_key, key, payload,
                      sum(octet_length(payload::text)) over (order by event_id
                          rows between unbounded preceding and 1 preceding) as bytes_before
               from (select event_id, at, routing_key, key, payload from shop.event
                     where event_id > $1 order by event_id limit $2) front) page
         where coalesce(bytes_before, 0) < $3
         order by event_id",
    )
    .bind(after)
    .bind(i64::from(size.events))
    .bind(i64::from(size.bytes));
    let events: Vec<Event> =
        with_timeout(pool, STATEMENT_TIMEOUT, async |conn| query.fetch_all(&mut **conn).await).await?;
    let bytes: usize = events.iter().map(|event| event.payload().len()).sum();
    let is_full = events.len() >= size.events as usize || bytes >= size.bytes as usize;
    Ok(EventPage { events, is_full })
}

/// Which part of the log there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromRow)]
pub struct LogRange {
    /// The event before the oldest that is kept: whoever has it can read on.
    pub pruned_through: i64,
    /// The newest.
    pub last_event_id: i64,
}

/// Tells which part of the log there is.
///
/// # Errors
/// When the database refuses or is away.
pub async fn log_range(pool: &PgPool) -> Result<LogRange, sqlx::Error> {
    let query = sqlx::query_as(
        "select coalesce((select min(event_id) - 1 from shop.event), last_event_id) as pruned_through, last_event_id
         from shop.event_log where only_one",
    );
    with_timeout(pool, STATEMENT_TIMEOUT, async |conn| query.fetch_one(&mut **conn).await).await
}
