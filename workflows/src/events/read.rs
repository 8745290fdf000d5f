//! Reads the event log, and the lag of its consumers.

use std::time::Instant;

use chrono::{DateTime, Utc};
use engine::with_timeout;
use sqlx::{PgConnection, PgPool};
use sqlx_macros::FromRow;

use super::{
    event::{Event, EventPage, LogRange, PageSize},
    low_water_marks::{EventLogMark, LowWaterMarks, OutboxFront, OutboxWriters},
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
pub async fn log_range(pool: &PgPool, marks: &LowWaterMarks) -> Result<LogRange, sqlx::Error> {
    with_timeout(pool, STATEMENT_TIMEOUT, async |conn| range(conn, marks).await).await
}

/// Reads which part of the event log exists, from the mark on, and moves the mark there.
pub(super) async fn range(conn: &mut PgConnection, marks: &LowWaterMarks) -> Result<LogRange, sqlx::Error> {
    let EventLogMark { server_started_at, pruned_through } = marks.event_log();
    let (mut range, server) = range_after(conn, pruned_through).await?;
    // The database was restored to an earlier state, or may have been.
    if pruned_through > 0 && (server_started_at != Some(server) || range.last_event_id < pruned_through) {
        range = range_after(conn, 0).await?.0;
    }
    marks.set_event_log(EventLogMark {
        server_started_at: Some(server),
        pruned_through: range.pruned_through,
    });
    Ok(range)
}

async fn range_after(
    conn: &mut PgConnection,
    pruned_through: i64,
) -> Result<(LogRange, DateTime<Utc>), sqlx::Error> {
    let (pruned_through, last_event_id, server) = sqlx::query_as(
        "select coalesce((select min(event_id) - 1 from shop.event where event_id > $1), last_event_id),
                last_event_id, pg_postmaster_start_time()
         from shop.event_log order by last_event_id desc limit 1",
    )
    .bind(pruned_through)
    .fetch_one(conn)
    .await?;
    Ok((LogRange { pruned_through, last_event_id }, server))
}

/// Reads the id of the newest event.
///
/// # Errors
/// When the database refuses or can't be reached.
pub async fn last_event_id(pool: &PgPool) -> Result<i64, sqlx::Error> {
    let query =
        sqlx::query_scalar("select last_event_id from shop.event_log order by last_event_id desc limit 1");
    with_timeout(pool, STATEMENT_TIMEOUT, async |conn| query.fetch_one(&mut **conn).await).await
}

/// Where the waiting events of the outbox begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutboxLook {
    /// Whether any event waits.
    pub(super) waits: bool,
    /// No event has a lower id, now or later.
    pub(super) from: i64,
}

/// Looks at the front of the outbox from the mark on, and moves the mark. It needs no transaction: the statements must
/// not share a snapshot.
pub(super) async fn look(conn: &mut PgConnection, marks: &LowWaterMarks) -> Result<OutboxLook, sqlx::Error> {
    let mut mark = marks.outbox();
    if marks.advance_is_due(&mark) {
        mark.note_writers(&outbox_writers(conn).await?);
    }
    let mut begin = marks.begin_look(&mut mark);
    let mut began_at = Instant::now();
    let mut front = outbox_front(conn, begin).await?;
    if !mark.holds_for(&front) {
        mark.reset();
        if begin > 0 {
            (begin, began_at) = (0, Instant::now());
            front = outbox_front(conn, begin).await?;
        }
    }
    if mark.note_front(&front) {
        let found = mark.from;
        tracing::warn!(
            found,
            "an event has an id that the outbox had passed; it may come after younger events"
        );
    }
    if begin == 0 {
        mark.plan_full_look(began_at.elapsed());
    }
    let look = OutboxLook { waits: front.lowest.is_some(), from: mark.from };
    marks.set_outbox(mark);
    Ok(look)
}

async fn outbox_front(conn: &mut PgConnection, begin: i64) -> Result<OutboxFront, sqlx::Error> {
    sqlx::query_as(
        "select (select event_id from shop.outbox where event_id >= $1 order by event_id limit 1) as lowest,
                (select case when is_called then last_value else 0 end from shop.outbox_event_id_seq) as drawn,
                pg_postmaster_start_time() as server_started_at",
    )
    .bind(begin)
    .fetch_one(conn)
    .await
}

async fn outbox_writers(conn: &mut PgConnection) -> Result<OutboxWriters, sqlx::Error> {
    sqlx::query_as(
        "select array(select virtualtransaction from pg_locks
                      where locktype = 'relation' and mode = 'RowExclusiveLock' and relation = 'shop.outbox'::regclass
                        and database = (select oid from pg_database where datname = current_database())) as writers,
                pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint as logged,
                pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint as flushed",
    )
    .fetch_one(conn)
    .await
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
pub async fn lag(pool: &PgPool, marks: &LowWaterMarks) -> Result<Lag, sqlx::Error> {
    let mut conn = pool.acquire().await?;
    let from = look(&mut conn, marks).await?.from;
    let (waiting_events, waiting_seconds): (i64, f64) = sqlx::query_as(
        "select count(*), coalesce(extract(epoch from now() - min(at)), 0)::float8
         from (select at from shop.outbox where event_id >= $2 order by event_id limit $1) w",
    )
    .bind(MAX_COUNTED)
    .bind(from)
    .fetch_one(&mut *conn)
    .await?;
    let LogRange { pruned_through, last_event_id } = range(&mut conn, marks).await?;
    let consumers = sqlx::query_as(
        "select c.name, l.last_event_id - c.last_event_id as events,
                coalesce(extract(epoch from now() - e.at), 0)::float8 as seconds
         from shop.event_consumer c
         cross join (select last_event_id from shop.event_log order by last_event_id desc limit 1) l
         left join shop.event e on e.event_id = c.last_event_id + 1
         order by c.name",
    )
    .fetch_all(&mut *conn)
    .await?;
    Ok(Lag { waiting_events, waiting_seconds, kept_events: last_event_id - pruned_through, consumers })
}
