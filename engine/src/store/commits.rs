//! Statements that advance claimed sagas: the fence, the history and the new states.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use sqlx::PgConnection;
use sqlx_macros::FromRow;
use uuid::Uuid;

use crate::model::{ids::WorkerId, views::HistoryOutcome};

/// What the fence reads of a saga that this worker still holds.
#[derive(Debug, FromRow)]
pub(crate) struct FencedSaga {
    pub(crate) id: Uuid,
    pub(crate) epoch: i64,
    pub(crate) history_seq: i32,
    pub(crate) cancel: Option<serde_json::Value>,
    /// Whether a cancel for it is in the inbox.
    pub(crate) has_message: bool,
    /// Whether signals for it are in the inbox that no wait has taken.
    pub(crate) has_signals: bool,
    pub(crate) deadline_passed: bool,
    /// How long ago the saga was created.
    pub(crate) age_ms: i64,
    /// How long ago the first of the snoozes in a row was that put its step off; zero if there was none.
    pub(crate) postponed_ms: i64,
    /// When the wait ends at the latest, and when it began, that the saga has entered at its step.
    pub(crate) wait_until: Option<DateTime<Utc>>,
    pub(crate) waits_since: Option<DateTime<Utc>>,
    pub(crate) now: DateTime<Utc>,
    /// The PID of this connection's server process, to terminate it if its statement is no longer awaited.
    pub(crate) backend: i32,
}

/// Locks the sagas that this worker still holds, in the order of their ids. Sagas that another worker has taken over
/// are missing from the result.
pub(crate) async fn fence(
    conn: &mut PgConnection,
    ids: &[Uuid],
    worker: WorkerId,
) -> Result<Vec<FencedSaga>, sqlx::Error> {
    sqlx::query_as(
        "select id, epoch, history_seq, cancel, coalesce(deadline_at <= clock_timestamp(), false) as deadline_passed, \
             (extract(epoch from clock_timestamp() - created_at) * 1000)::bigint as age_ms, \
             coalesce((extract(epoch from clock_timestamp() - postponed_since) * 1000)::bigint, 0) as postponed_ms, \
             wait_until, waits_since, clock_timestamp() as now, pg_backend_pid() as backend, \
             exists (select from engine.inbox i where i.saga_id = saga.id and i.state = 'unread' \
             and i.kind = 'cancel') \
                 as has_message, \
             exists (select from engine.inbox i where i.saga_id = saga.id and i.state in ('unread', 'unreadable') \
             and i.kind = 'signal') \
                 as has_signals \
         from engine.saga where id = any((select $1::uuid[])::uuid[]) and lease_owner = $2 order by id for update",
    )
    .bind(ids)
    .bind(worker)
    .fetch_all(conn)
    .await
}

/// The database's time.
pub(crate) async fn clock(conn: &mut PgConnection) -> Result<DateTime<Utc>, sqlx::Error> {
    sqlx::query_scalar("select clock_timestamp()").fetch_one(conn).await
}

/// Terminates a server process of the engine whose statement is no longer awaited, so that its locks are released.
pub(crate) async fn terminate(conn: &mut PgConnection, backend: i32) -> Result<(), sqlx::Error> {
    sqlx::query("select pg_terminate_backend($1)").bind(backend).execute(conn).await.map(drop)
}

/// Limits how long the statements of this transaction wait for a lock. Returns the PID of this connection's server
/// process.
pub(crate) async fn bound_lock_waits(conn: &mut PgConnection, limit: Duration) -> Result<i32, sqlx::Error> {
    let (_, pid): (String, i32) =
        sqlx::query_as("select set_config('lock_timeout', $1, true), pg_backend_pid()")
            .bind(format!("{}ms", limit.as_millis()))
            .fetch_one(conn)
            .await?;
    Ok(pid)
}

/// A history entry to be written.
#[derive(Clone, Debug)]
pub(crate) struct HistoryRow {
    pub(crate) saga_id: Uuid,
    pub(crate) seq: i32,
    pub(crate) step: String,
    pub(crate) direction: &'static str,
    pub(crate) outcome: HistoryOutcome,
    pub(crate) attempt: i32,
    /// By the monotonic clock of this process; it is converted to the database's time when it is written.
    pub(crate) started: Instant,
    pub(crate) duration: Duration,
    pub(crate) output: Option<std::sync::Arc<serde_json::value::RawValue>>,
    pub(crate) error: Vec<String>,
    /// The details as JSON.
    pub(crate) details: Option<String>,
    pub(crate) epoch: i64,
}

impl HistoryRow {
    pub(crate) fn output_json(&self) -> Option<&str> {
        self.output.as_deref().map(serde_json::value::RawValue::get)
    }
}

/// A saga's new state to be written.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "the columns of a row")]
pub(crate) struct SagaUpdate {
    pub(crate) id: Uuid,
    pub(crate) epoch: i64,
    pub(crate) status: &'static str,
    pub(crate) step: String,
    pub(crate) direction: &'static str,
    pub(crate) attempt: i32,
    pub(crate) lost_attempts: i32,
    pub(crate) in_doubt: bool,
    pub(crate) seq: i32,
    /// Whether this worker keeps its claim for the next attempt.
    pub(crate) held: bool,
    /// If the claim is not kept and the saga is still active: the delay until it is due.
    pub(crate) delay_ms: i64,
    /// Whether the step was snoozed; `None` if it was not decided about, and then it stays as it is.
    pub(crate) snoozed: Option<bool>,
    /// Whether the saga becomes due at its deadline even if the delay is longer.
    pub(crate) wakes_at_deadline: bool,
    /// Whether a requested cancel stays stored, for a worker that knows the saga's graph.
    pub(crate) keeps_cancel: bool,
    /// The wait that it has entered.
    pub(crate) wait: Option<WaitRow>,
    /// If its graph has steps with children: where it stands among them.
    pub(crate) children: Option<ChildrenRow>,
    /// The arms that it has taken, a letter each; `None` leaves what is stored.
    pub(crate) arms: Option<String>,
    /// What it gave.
    pub(crate) result: Option<std::sync::Arc<serde_json::value::RawValue>>,
    /// `None` keeps the stored cause.
    pub(crate) cause: Option<String>,
    pub(crate) error: Option<String>,
}

/// The wait that a saga has entered at its step.
#[derive(Clone, Debug)]
pub(crate) struct WaitRow {
    pub(crate) since: DateTime<Utc>,
    /// When it ends at the latest; a wait for children has no such time.
    pub(crate) until: Option<DateTime<Utc>>,
    /// What it waits for, `sleep`, `signal` or `children`, if it stays in the wait and nobody holds it.
    pub(crate) waits_for: Option<&'static str>,
    pub(crate) signal: Option<&'static str>,
}

/// Where a saga stands whose graph has steps with children.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ChildrenRow {
    /// How often the step was begun anew; `None` if not.
    pub(crate) round: Option<i32>,
    /// If it waits for children: it goes on when no more than this many are open.
    pub(crate) wakes_at_open: Option<i32>,
    /// Whether it also goes on when one did not complete.
    pub(crate) wakes_at_failure: bool,
}

/// What [`update_sagas`] sets besides the state. A batch that has none of it binds no parameters for it.
#[derive(Default)]
struct Extras {
    set: String,
    /// When a waiting saga is due.
    due: &'static str,
    parameters: String,
    names: String,
    /// The number of the last parameter.
    last: usize,
}

impl Extras {
    fn of(rows: &[SagaUpdate]) -> Self {
        let mut extras = Self { last: 18, ..Self::default() };
        if has_waits(rows) {
            extras.due = "when m.waits_for is not null then \
                 least(m.wait_until, case when m.wakes_at_deadline then s.deadline_at end)";
            for (column, kind) in [
                ("waits_for", "text"),
                ("wait_until", "timestamptz"),
                ("waits_since", "timestamptz"),
                ("signal_name", "text"),
            ] {
                extras.add(column, kind, "");
            }
        } else {
            extras
                .set
                .push_str("waits_for = null, wait_until = null, waits_since = null, signal_name = null, ");
        }
        if has_results(rows) {
            extras.add("result", "text", "::jsonb");
        }
        if has_arms(rows) {
            extras.add("arms", "text", "");
        }
        if has_children(rows) {
            extras.add("round", "int", "");
            extras.add("wakes_at_open", "int", "");
            extras.add("wakes_at_failure", "bool", "");
        }
        extras
    }

    fn add(&mut self, column: &str, kind: &str, cast: &str) {
        self.last += 1;
        let _ = write!(self.set, "{column} = m.{column}{cast}, ");
        let _ = write!(self.parameters, ", ${}::{kind}[]", self.last);
        let _ = write!(self.names, ", {column}");
    }
}

fn has_waits(rows: &[SagaUpdate]) -> bool {
    rows.iter().any(|row| row.wait.is_some())
}

fn has_results(rows: &[SagaUpdate]) -> bool {
    rows.iter().any(|row| row.result.is_some())
}

fn has_children(rows: &[SagaUpdate]) -> bool {
    rows.iter().any(|row| row.children.is_some())
}

/// A saga never forgets its arms, so if no saga of a batch has any, none had.
fn has_arms(rows: &[SagaUpdate]) -> bool {
    rows.iter().any(|row| row.arms.is_some())
}

/// Writes new states under the fence, and returns how many rows it updated.
pub(crate) async fn update_sagas(
    conn: &mut PgConnection,
    rows: &[SagaUpdate],
    worker: WorkerId,
    lease_ms: i64,
) -> Result<u64, sqlx::Error> {
    let Extras { set, due, parameters, names, .. } = Extras::of(rows);
    let sql = format!(
        "update engine.saga s set \
             status = m.status, step = m.step, direction = m.direction, attempt = m.attempt, \
             lost_attempts = m.lost_attempts, \
             in_doubt = m.in_doubt, history_seq = m.seq, cause = coalesce(m.cause::jsonb, s.cause), error = m.error, \
             cancel = case when m.keeps_cancel then s.cancel end, \
             lease_owner = case when m.held then $1::uuid end, \
             claimed_at = case when m.held then clock_timestamp() end, \
             lease_until = case when m.held then clock_timestamp() + $2 * interval '1 ms' end, \
             {set}\
             postponed_since = case \
                 when m.snoozed is null then s.postponed_since \
                 when m.snoozed then coalesce(s.postponed_since, clock_timestamp()) end, \
             due_at = case \
                 when m.held or m.status not in ('running', 'compensating') then null \
                 {due} \
                 when m.wakes_at_deadline then least(clock_timestamp() + m.delay_ms * interval '1 ms', s.deadline_at) \
                 else clock_timestamp() + m.delay_ms * interval '1 ms' end, \
             ended_at = case when m.status in ('completed', 'compensated') then clock_timestamp() end \
         from unnest((select $3::uuid[]), $4::bigint[], $5::text[], $6::text[], $7::text[], $8::int[], $9::int[], \
         $10::bool[], \
             $11::int[], $12::bool[], $13::bigint[], $14::bool[], $15::text[], $16::text[], $17::bool[], \
             $18::bool[]{parameters}) \
             as m (id, epoch, status, step, direction, attempt, lost_attempts, in_doubt, seq, held, delay_ms, \
             wakes_at_deadline, \
                   cause, error, keeps_cancel, snoozed{names}) \
         where s.id = m.id and s.epoch = m.epoch and s.lease_owner = $1::uuid"
    );
    let query = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(worker)
        .bind(lease_ms)
        .bind(rows.iter().map(|row| row.id).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.epoch).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.status).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.step.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.direction).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.attempt).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.lost_attempts).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.in_doubt).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.seq).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.held).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.delay_ms).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.wakes_at_deadline).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.cause.as_deref()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.error.as_deref()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.keeps_cancel).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.snoozed).collect::<Vec<_>>());
    let waiting = || rows.iter().map(|row| row.wait.as_ref());
    let query = if has_waits(rows) {
        query
            .bind(waiting().map(|wait| wait?.waits_for).collect::<Vec<_>>())
            .bind(waiting().map(|wait| wait?.until).collect::<Vec<_>>())
            .bind(waiting().map(|wait| Some(wait?.since)).collect::<Vec<_>>())
            .bind(waiting().map(|wait| wait?.signal).collect::<Vec<_>>())
    } else {
        query
    };
    let query = if has_results(rows) {
        query.bind(rows.iter().map(|row| row.result.as_deref().map(RawValue::get)).collect::<Vec<_>>())
    } else {
        query
    };
    let query = if has_arms(rows) {
        query.bind(rows.iter().map(|row| row.arms.as_deref()).collect::<Vec<_>>())
    } else {
        query
    };
    let query = if has_children(rows) {
        let children = || rows.iter().map(|row| row.children.unwrap_or_default());
        query
            .bind(children().map(|children| children.round).collect::<Vec<_>>())
            .bind(children().map(|children| children.wakes_at_open).collect::<Vec<_>>())
            .bind(children().map(|children| children.wakes_at_failure).collect::<Vec<_>>())
    } else {
        query
    };
    query.execute(conn).await.map(|result| result.rows_affected())
}

pub(crate) fn error_json(error: &[String]) -> Option<String> {
    (!error.is_empty()).then(|| serde_json::Value::from(error.to_vec()).to_string())
}
