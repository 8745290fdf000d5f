//! Reads the event log, and the lag of its consumers.

use engine::with_timeout;
use sqlx::PgPool;
use sqlx_macros::FromRow;

use super::{
    event::{Event, EventPage, LogRange, PageSize},
    timeout::STATEMENT_TIMEOUT,
};

/// Reads the page after the event `after`; empty at the end of the event log.
///
/// # Errors
/// When the database refuses or can't be reached, or does not answer within ten seconds.
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

/// Reads which part of the event log exists.
///
/// # Errors
/// When the database refuses or can't be reached.
pub async fn log_range(pool: &PgPool) -> Result<LogRange, sqlx::Error> {
    let query = sqlx::query_as(
        "select coalesce((select min(event_id) - 1 from shop.event), last_event_id) as pruned_through, last_event_id
         from shop.event_log where singleton",
    );
    with_timeout(pool, STATEMENT_TIMEOUT, async |conn| query.fetch_one(&mut **conn).await).await
}

/// The limit for counting the waiting events of the outbox.
const MAX_COUNTED: i64 = 100_000;

/// The lag of the sequencer and of all consumers.
#[derive(Clone, Debug, PartialEq)]
pub struct Lag {
    /// Committed events that have no id yet, counted up to a hundred thousand.
    pub waiting_events: i64,
    /// The age of the oldest of them, in seconds.
    pub waiting_seconds: f64,
    /// Events in the event log.
    pub kept_events: i64,
    /// The lag of each registered consumer.
    pub consumers: Vec<ConsumerLag>,
}

/// The lag of one consumer.
#[derive(Clone, Debug, PartialEq, FromRow)]
pub struct ConsumerLag {
    /// The consumer's name.
    pub name: String,
    /// The number of events that it has not confirmed.
    pub events: i64,
    /// The age of the oldest of them, in seconds.
    pub seconds: f64,
}

/// Reads the lag of the sequencer and of all consumers.
///
/// # Errors
/// When the database refuses or can't be reached.
pub async fn lag(pool: &PgPool) -> Result<Lag, sqlx::Error> {
    let (waiting_events, waiting_seconds): (i64, f64) = sqlx::query_as(
        "select count(*), coalesce(extract(epoch from now() - min(at)), 0)::float8
         from (select at from shop.outbox order by event_id limit $1) w",
    )
    .bind(MAX_COUNTED)
    .fetch_one(pool)
    .await?;
    let kept_events: i64 = sqlx::query_scalar(
        "select last_event_id - coalesce((select min(event_id) - 1 from shop.event), last_event_id)
         from shop.event_log where singleton",
    )
    .fetch_one(pool)
    .await?;
    let consumers = sqlx::query_as(
        "select c.name, l.last_event_id - c.last_event_id as events,
                coalesce(extract(epoch from now() - e.at), 0)::float8 as seconds
         from shop.event_consumer c join shop.event_log l on l.singleton
         left join shop.event e on e.event_id = c.last_event_id + 1
         order by c.name",
    )
    .fetch_all(pool)
    .await?;
    Ok(Lag { waiting_events, waiting_seconds, kept_events, consumers })
}
