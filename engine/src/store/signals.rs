//! Statements about signals and about sagas that wait for them.

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use sqlx::{PgConnection, types::Json};
use sqlx_macros::FromRow;
use uuid::Uuid;

use crate::{
    model::{signal::SignalState, status::Status},
    store::children::CHILDREN_LET_GO_ON,
};

/// What a sender has to know of the saga for which its signal is.
#[derive(Debug, FromRow)]
pub(crate) struct AddresseeRow {
    pub(crate) id: Uuid,
    pub(crate) graph_hash: String,
    status: String,
    pub(crate) step: String,
    direction: String,
    pub(crate) ended: bool,
}

impl AddresseeRow {
    /// The status, if it is one in which a saga takes no signals any more.
    pub(crate) fn refuses(&self) -> Option<Status> {
        let goes_back = self.direction != "action";
        let status = self.status.parse().ok()?;
        (self.ended || goes_back || matches!(status, Status::Completed | Status::Compensated))
            .then_some(status)
    }
}

const ADDRESSEE: &str = "select s.id, s.graph_hash, s.status, s.step, s.direction, s.ended_at is not null as ended from engine.saga s";

/// Selects the saga with this id. It takes no lock.
pub(crate) async fn addressee(
    conn: &mut PgConnection,
    id: Uuid,
) -> Result<Option<AddresseeRow>, sqlx::Error> {
    sqlx::query_as(sqlx::AssertSqlSafe(format!("{ADDRESSEE} where s.id = $1")))
        .bind(id)
        .fetch_optional(conn)
        .await
}

/// Selects the saga that was started with this business key.
pub(crate) async fn addressee_by_key(
    conn: &mut PgConnection,
    definition: &str,
    business_key: &str,
) -> Result<Option<AddresseeRow>, sqlx::Error> {
    let sql = format!(
        "{ADDRESSEE} join engine.business_key k on k.saga_id = s.id where k.definition = $1 and k.key = $2"
    );
    sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(definition).bind(business_key).fetch_optional(conn).await
}

/// A signal to be stored.
#[derive(Debug)]
pub(crate) struct NewSignal<'a> {
    pub(crate) saga_id: Uuid,
    pub(crate) name: &'a str,
    pub(crate) key: &'a str,
    pub(crate) message: &'a RawValue,
    pub(crate) sender: Option<&'a str>,
    /// Whether the saga has passed the last wait for it.
    pub(crate) too_late: bool,
}

/// What is stored under the name and key of a signal.
#[derive(Debug)]
pub(crate) struct StoredSignal {
    pub(crate) state: SignalState,
    /// Whether it was stored before.
    pub(crate) replayed: bool,
    /// Whether it has the same message.
    pub(crate) same: bool,
}

/// Stores a signal, unless there is one of the same name and key.
pub(crate) async fn send(
    conn: &mut PgConnection,
    signal: &NewSignal<'_>,
) -> Result<StoredSignal, sqlx::Error> {
    let inserted = sqlx::query(
        "insert into engine.inbox (saga_id, kind, name, key, payload, sender, state, settled_at) \
         values ($1, 'signal', $2, $3, $4, $5, case when $6 then 'too_late' else 'unread' end, \
             case when $6 then clock_timestamp() end) \
         on conflict do nothing",
    )
    .bind(signal.saga_id)
    .bind(signal.name)
    .bind(signal.key)
    .bind(Json(signal.message))
    .bind(signal.sender)
    .bind(signal.too_late)
    .execute(&mut *conn)
    .await?;
    if inserted.rows_affected() == 1 {
        let state = if signal.too_late { SignalState::TooLate } else { SignalState::Buffered };
        return Ok(StoredSignal { state, replayed: false, same: true });
    }
    stored(conn, signal).await?.ok_or(sqlx::Error::RowNotFound)
}

/// Selects the signal that is stored under the name and key of this one.
pub(crate) async fn stored(
    conn: &mut PgConnection,
    signal: &NewSignal<'_>,
) -> Result<Option<StoredSignal>, sqlx::Error> {
    let row: Option<(String, bool)> = sqlx::query_as(
        "select state, payload = $4 from engine.inbox where saga_id = $1 and kind = 'signal' and name = $2 and key = $3",
    )
    .bind(signal.saga_id)
    .bind(signal.name)
    .bind(signal.key)
    .bind(Json(signal.message))
    .fetch_optional(conn)
    .await?;
    row.map(|(state, same)| {
        let state = state.parse().map_err(|error: strum::ParseError| sqlx::Error::Decode(error.into()))?;
        Ok(StoredSignal { state, replayed: true, same })
    })
    .transpose()
}

/// A signal that a wait may take.
#[derive(Debug, FromRow)]
pub(crate) struct SignalMessage {
    pub(crate) saga_id: Uuid,
    pub(crate) id: i64,
    /// Whether code that could not read it has looked at it before.
    pub(crate) unreadable: bool,
    pub(crate) payload: Json<Box<RawValue>>,
}

/// A wait for which signals are read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SignalRead<'a> {
    pub(crate) saga_id: Uuid,
    pub(crate) name: &'a str,
    /// Of those that other code could not read, only later ones.
    pub(crate) after: i64,
}

/// Selects the first signals for each of these waits, at most `limit` of each: those that are unread, the oldest first, then
/// those that other code could not read. The caller has locked the sagas, in an earlier statement: a signal that is
/// committed after this one has read finds the saga waiting.
pub(crate) async fn oldest(
    conn: &mut PgConnection,
    waits: &[SignalRead<'_>],
    limit: i64,
) -> Result<Vec<SignalMessage>, sqlx::Error> {
    sqlx::query_as(
        "select w.saga_id, m.id, m.unreadable, m.payload \
         from unnest($1::uuid[], $2::text[], $3::bigint[]) as w (saga_id, name, after) \
         cross join lateral ( \
             (select i.id, false as unreadable, i.payload from engine.inbox i \
              where i.saga_id = w.saga_id and i.kind = 'signal' and i.name = w.name \
                  and i.state in ('unread', 'unreadable') and i.state = 'unread' \
              order by i.id limit $4) \
             union all \
             (select i.id, true, i.payload from engine.inbox i \
              where i.saga_id = w.saga_id and i.kind = 'signal' and i.name = w.name \
                  and i.state in ('unread', 'unreadable') and i.state = 'unreadable' and i.id > w.after \
              order by i.id limit $4) \
             limit $4 \
         ) m order by w.saga_id, m.unreadable, m.id",
    )
    .bind(waits.iter().map(|wait| wait.saga_id).collect::<Vec<_>>())
    .bind(waits.iter().map(|wait| wait.name).collect::<Vec<_>>())
    .bind(waits.iter().map(|wait| wait.after).collect::<Vec<_>>())
    .bind(limit)
    .fetch_all(conn)
    .await
}

/// Selects the messages of all signals that these sagas may still take.
pub(crate) async fn open(
    conn: &mut PgConnection,
    saga_ids: &[Uuid],
) -> Result<Vec<(Uuid, String, Json<Box<RawValue>>)>, sqlx::Error> {
    sqlx::query_as(
        "select saga_id, name, payload from engine.inbox \
         where saga_id = any($1) and state in ('unread', 'unreadable') and kind = 'signal'",
    )
    .bind(saga_ids)
    .fetch_all(conn)
    .await
}

/// Counts the signals that a saga may still take, up to `limit`.
pub(crate) async fn count_open(conn: &mut PgConnection, id: Uuid, limit: i64) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "select count(*) from (select from engine.inbox \
             where saga_id = $1 and state in ('unread', 'unreadable') and kind = 'signal' limit $2) open",
    )
    .bind(id)
    .bind(limit)
    .fetch_one(conn)
    .await
}

/// Whether a saga has an unread signal of this name.
pub(crate) async fn has_unread(conn: &mut PgConnection, id: Uuid, name: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "select exists (select from engine.inbox \
             where saga_id = $1 and state = 'unread' and kind = 'signal' and name = $2)",
    )
    .bind(id)
    .bind(name)
    .fetch_one(conn)
    .await
}

/// Marks unread signals of these sagas and names as too late.
pub(crate) async fn expire_named(conn: &mut PgConnection, waits: &[(Uuid, &str)]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update engine.inbox i set state = 'too_late', settled_at = clock_timestamp() \
         from unnest($1::uuid[], $2::text[]) as w (saga_id, name) \
         where i.saga_id = w.saga_id and i.state in ('unread', 'unreadable') and i.kind = 'signal' and i.name = w.name",
    )
    .bind(waits.iter().map(|(id, _)| *id).collect::<Vec<_>>())
    .bind(waits.iter().map(|(_, name)| *name).collect::<Vec<_>>())
    .execute(conn)
    .await
    .map(drop)
}

/// Marks the unread signals of sagas that end as too late.
pub(crate) async fn expire(conn: &mut PgConnection, saga_ids: &[Uuid]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update engine.inbox set state = 'too_late', settled_at = clock_timestamp() \
         where saga_id = any($1) and state in ('unread', 'unreadable') and kind = 'signal'",
    )
    .bind(saga_ids)
    .execute(conn)
    .await
    .map(drop)
}

/// A signal that a saga took, and the entry of its history that says so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TakenSignal {
    pub(crate) id: i64,
    /// `None` if the saga's code could not read it.
    pub(crate) history_seq: Option<i32>,
}

/// Marks signals as taken; the caller has locked their sagas.
pub(crate) async fn take(conn: &mut PgConnection, taken: &[TakenSignal]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update engine.inbox i set settled_at = clock_timestamp(), history_seq = t.history_seq, \
             state = case when t.history_seq is null then 'unreadable' else 'consumed' end \
         from unnest($1::bigint[], $2::int[]) as t (id, history_seq) where i.id = t.id and i.state in ('unread', 'unreadable')",
    )
    .bind(taken.iter().map(|taken| taken.id).collect::<Vec<_>>())
    .bind(taken.iter().map(|taken| taken.history_seq).collect::<Vec<_>>())
    .execute(conn)
    .await
    .map(drop)
}

/// What a nudge did with a saga.
#[derive(Debug, FromRow)]
pub(crate) struct NudgedRow {
    pub(crate) id: Uuid,
    pub(crate) queue: String,
    /// Whether it waited for a signal or for children, and is due now.
    pub(crate) woken: bool,
    /// Whether another transaction holds it, so that nothing was done.
    pub(crate) locked: bool,
}

/// Makes those of these sagas due that wait for a signal, or for children that let them go on. The others look before they
/// wait.
pub(crate) async fn nudge(conn: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<NudgedRow>, sqlx::Error> {
    let sql = format!(
        "with free as ( \
             select s.id, case s.waits_for when 'signal' then s.due_at > clock_timestamp() \
                 when 'children' then coalesce(s.due_at > clock_timestamp(), true) and {CHILDREN_LET_GO_ON} \
                 else false end as waits \
             from engine.saga s where s.id = any($1) order by s.id for update of s skip locked \
         ), woken as ( \
             update engine.saga s set due_at = clock_timestamp() from free f where s.id = f.id and f.waits \
         ) \
         select s.id, s.queue, coalesce(f.waits, false) as woken, f.id is null as locked \
         from engine.saga s left join free f on f.id = s.id where s.id = any($1)"
    );
    sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(ids).fetch_all(conn).await
}

/// Selects sagas that wait for a signal which has come, and has not woken them for `older_ms`.
pub(crate) async fn unnudged(
    conn: &mut PgConnection,
    older_ms: i64,
    limit: i64,
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "select distinct s.id from engine.inbox i join engine.saga s on s.id = i.saga_id \
         where i.state = 'unread' and i.kind = 'signal' and i.created_at < clock_timestamp() - $1 * interval '1 ms' \
             and s.waits_for = 'signal' and s.signal_name = i.name and s.due_at > clock_timestamp() \
         limit $2",
    )
    .bind(older_ms)
    .bind(limit)
    .fetch_all(conn)
    .await
}

/// Marks signals as too late that were stored while their sagas ended. Returns how many.
pub(crate) async fn expire_of_ended(
    conn: &mut PgConnection,
    older_ms: i64,
    limit: i64,
) -> Result<u64, sqlx::Error> {
    sqlx::query(
        "update engine.inbox set state = 'too_late', settled_at = clock_timestamp() \
         where id in (select i.id from engine.inbox i join engine.saga s on s.id = i.saga_id \
                 where i.state in ('unread', 'unreadable') and i.kind = 'signal' \
                     and i.created_at < clock_timestamp() - $1 * interval '1 ms' \
                     and (s.ended_at is not null or s.status in ('completed', 'compensated')) \
                 order by i.id limit $2 for update of i skip locked)",
    )
    .bind(older_ms)
    .bind(limit)
    .execute(conn)
    .await
    .map(|done| done.rows_affected())
}

/// Deletes signals whose saga does not exist any more: their sender's transaction ended long after it. Returns how many.
pub(crate) async fn delete_orphans(
    conn: &mut PgConnection,
    older_ms: i64,
    limit: i64,
) -> Result<u64, sqlx::Error> {
    sqlx::query(
        "delete from engine.inbox where id in (select i.id from engine.inbox i \
             where i.state in ('unread', 'unreadable') and i.kind = 'signal' \
                 and i.created_at < clock_timestamp() - $1 * interval '1 ms' \
                 and not exists (select from engine.saga s where s.id = i.saga_id) \
             order by i.id limit $2 for update skip locked)",
    )
    .bind(older_ms)
    .bind(limit)
    .execute(conn)
    .await
    .map(|done| done.rows_affected())
}

/// A wait that an operator ended.
#[derive(Debug, FromRow)]
pub(crate) struct SkippedRow {
    pub(crate) step: String,
    pub(crate) queue: String,
    pub(crate) waits_for: String,
    pub(crate) wait_until: Option<DateTime<Utc>>,
}

/// Ends the wait of a saga that nobody holds, as if its time were over. Returns what it waited for; `None` if it does not
/// wait. Fails if another transaction holds the saga.
pub(crate) async fn skip_wait(conn: &mut PgConnection, id: Uuid) -> Result<Option<SkippedRow>, sqlx::Error> {
    sqlx::query_as(
        "with waiting as ( \
             select id, step, queue, waits_for, coalesce(wait_until, due_at) as wait_until from engine.saga \
             where id = $1 and waits_for in ('sleep', 'signal') and due_at > clock_timestamp() for update nowait \
         ), skipped as ( \
             update engine.saga s set due_at = clock_timestamp(), \
                 wait_until = case when s.wait_until is not null then clock_timestamp() end \
             from waiting w where s.id = w.id \
         ) \
         select step, queue, waits_for, wait_until from waiting",
    )
    .bind(id)
    .fetch_optional(conn)
    .await
}
