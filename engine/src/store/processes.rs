//! Statements about live processes and the graphs that they know.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use sqlx::{PgConnection, PgPool};
use sqlx_macros::FromRow;
use uuid::Uuid;

use crate::{
    model::{graph::Graph, ids::WorkerId, process::ProcessView},
    store::{claims::SUSPECT, rows::Rows},
};

/// What a process tells of itself with every heartbeat.
#[derive(Debug)]
pub(crate) struct ProcessRow<'a> {
    pub(crate) id: WorkerId,
    pub(crate) host: &'a str,
    pub(crate) pid: i32,
    pub(crate) version: &'a str,
    pub(crate) role: &'a str,
    pub(crate) queues: &'a [String],
    pub(crate) hashes: &'a [String],
    pub(crate) steps: &'a [String],
    pub(crate) in_flight: i32,
    pub(crate) capacity: i32,
    pub(crate) draining: bool,
}

/// Writes or renews the row of a process.
pub(crate) async fn beat(conn: &mut PgConnection, row: &ProcessRow<'_>) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into engine.process (id, host, pid, version, role, queues, hashes, steps, in_flight, draining, capacity) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
         on conflict (id) do update set queues = excluded.queues, in_flight = excluded.in_flight, \
             capacity = excluded.capacity, draining = excluded.draining, seen_at = clock_timestamp()",
    )
    .bind(row.id)
    .bind(row.host)
    .bind(row.pid)
    .bind(row.version)
    .bind(row.role)
    .bind(row.queues)
    .bind(row.hashes)
    .bind(row.steps)
    .bind(row.in_flight)
    .bind(row.draining)
    .bind(row.capacity)
    .execute(conn)
    .await
    .map(drop)
}

#[derive(FromRow)]
struct ProcessViewRow {
    id: Uuid,
    state: String,
    role: String,
    version: String,
    host: String,
    pid: i32,
    queues: Vec<String>,
    hashes: Vec<String>,
    in_flight: i32,
    capacity: Option<i32>,
    started_at: DateTime<Utc>,
    seen_at: DateTime<Utc>,
}

impl ProcessViewRow {
    fn view(self) -> Result<ProcessView, sqlx::Error> {
        Ok(ProcessView {
            worker: WorkerId(self.id),
            state: self.state.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
            role: self.role,
            version: self.version,
            host: self.host,
            pid: self.pid.unsigned_abs(),
            queues: self.queues,
            graphs: self.hashes,
            in_flight: self.in_flight.unsigned_abs(),
            capacity: self.capacity.map(i32::unsigned_abs),
            started_at: self.started_at,
            seen_at: self.seen_at,
        })
    }
}

/// Selects all processes, the oldest first. One that has told nothing for `alive_ms` is gone.
pub(crate) async fn all(pool: &PgPool, alive_ms: i64) -> Result<Vec<ProcessView>, sqlx::Error> {
    let rows: Vec<ProcessViewRow> = sqlx::query_as(
        "select id, role, version, host, pid, queues, hashes, in_flight, capacity, started_at, seen_at, \
             case when seen_at <= clock_timestamp() - $1 * interval '1 ms' then 'gone' \
                 when draining then 'draining' else 'up' end as state \
         from engine.process order by started_at, id",
    )
    .bind(alive_ms)
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(ProcessViewRow::view).collect()
}

/// Stores a graph. One that is stored already is written anew if an older engine stored it in another form, or if its policies
/// have changed, which its hash does not cover.
pub(crate) async fn store_graph(
    conn: &mut PgConnection,
    graph: &Graph,
    input_schema: &serde_json::Value,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into engine.graph (hash, definition, graph, input_schema) values ($1, $2, $3, $4) \
         on conflict (hash) do update set graph = excluded.graph, input_schema = excluded.input_schema \
             where graph.graph is distinct from excluded.graph",
    )
    .bind(&graph.hash)
    .bind(&graph.name)
    .bind(sqlx::types::Json(graph))
    .bind(input_schema)
    .execute(conn)
    .await
    .map(drop)
}

/// Whether a process that has told for `alive_ms` that it lives, and works on a queue, knows a graph.
pub(crate) async fn is_known(
    conn: &mut PgConnection,
    hash: &str,
    alive_ms: i64,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "select exists (select from engine.process \
             where seen_at > clock_timestamp() - $2 * interval '1 ms' and queues <> '{}' and $1 = any(hashes))",
    )
    .bind(hash)
    .bind(alive_ms)
    .fetch_one(conn)
    .await
}

/// Selects a stored graph; `None` if there is none, or a newer engine wrote it in a form that this one can't read.
pub(crate) async fn graph(conn: &mut PgConnection, hash: &str) -> Result<Option<Graph>, sqlx::Error> {
    let stored: Option<serde_json::Value> =
        sqlx::query_scalar("select graph from engine.graph where hash = $1")
            .bind(hash)
            .fetch_optional(conn)
            .await?;
    Ok(stored.and_then(|stored| Graph::deserialize(stored).ok()))
}

/// Deletes the row of a process that stops.
pub(crate) async fn leave(conn: &mut PgConnection, id: WorkerId) -> Result<(), sqlx::Error> {
    sqlx::query("delete from engine.process where id = $1").bind(id).execute(conn).await.map(drop)
}

/// Deletes the rows of processes that vanished long ago.
pub(crate) async fn forget_vanished(conn: &mut PgConnection, after_ms: i64) -> Result<u64, sqlx::Error> {
    sqlx::query("delete from engine.process where seen_at < clock_timestamp() - $1 * interval '1 ms'")
        .bind(after_ms)
        .execute(conn)
        .await
        .map(|result| result.rows_affected())
}

/// The sagas that wait for a process which knows their graph, in these queues and of these graphs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known<'a> {
    pub(crate) queues: &'a [String],
    pub(crate) hashes: &'a [String],
    /// At most so many.
    pub(crate) limit: i64,
}

impl Known<'_> {
    fn sql(rows: Rows<'_>) -> String {
        let rows = rows.and("id", 4);
        format!(
            "select id from engine.saga \
             where waits_for = 'version' and queue = any($1) and graph_hash = any($2){rows} limit $3"
        )
    }
}

/// Selects the ids of sagas that wait for a process which knows their graph.
pub(crate) async fn waiting_known(
    conn: &mut PgConnection,
    known: Known<'_>,
    rows: Rows<'_>,
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(sqlx::AssertSqlSafe(Known::sql(rows)))
        .bind(known.queues)
        .bind(known.hashes)
        .bind(known.limit)
        .bind(rows.ids())
        .fetch_all(conn)
        .await
}

/// Makes sagas due that wait for a process which knows their graph. Returns the id and the queue of each.
pub(crate) async fn wake_known(
    conn: &mut PgConnection,
    known: Known<'_>,
    rows: Rows<'_>,
) -> Result<Vec<(Uuid, String)>, sqlx::Error> {
    let sql = format!(
        "update engine.saga set waits_for = null, due_at = clock_timestamp() \
         where id in ({} for update skip locked) returning id, queue",
        Known::sql(rows)
    );
    sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(known.queues)
        .bind(known.hashes)
        .bind(known.limit)
        .bind(rows.ids())
        .fetch_all(conn)
        .await
}

/// Whether nobody holds a saga.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Overdue {
    /// Nobody does, and it was due.
    Waiting,
    /// Its lease ended.
    Lapsed,
}

/// The sagas of these queues that could have been claimed for `overdue_ms`, and whose graph no live process that works on
/// their queue knows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unknown<'a> {
    pub(crate) overdue: Overdue,
    pub(crate) queues: &'a [String],
    pub(crate) own_hashes: &'a [String],
    pub(crate) overdue_ms: i64,
    /// How long ago a process may have told that it lives.
    pub(crate) alive_ms: i64,
    /// At most so many.
    pub(crate) limit: i64,
}

impl Unknown<'_> {
    fn sql(self, rows: Rows<'_>) -> String {
        let since = match self.overdue {
            Overdue::Waiting => "due_at",
            Overdue::Lapsed => "lease_until",
        };
        let rows = rows.and("s.id", 6);
        format!(
            "select s.id from engine.saga s \
             where s.{since} < now() - $3 * interval '1 ms' and s.queue = any($1) \
                 and s.graph_hash <> all($2){rows} \
                 and not exists (select from engine.process p \
                     where p.seen_at > clock_timestamp() - $4 * interval '1 ms' and s.queue = any(p.queues) \
                         and s.graph_hash = any(p.hashes)) \
             order by s.{since} limit $5"
        )
    }
}

/// Selects the ids of sagas whose graph no live process knows.
pub(crate) async fn overdue_unknown(
    conn: &mut PgConnection,
    unknown: Unknown<'_>,
    rows: Rows<'_>,
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(sqlx::AssertSqlSafe(unknown.sql(rows)))
        .bind(unknown.queues)
        .bind(unknown.own_hashes)
        .bind(unknown.overdue_ms)
        .bind(unknown.alive_ms)
        .bind(unknown.limit)
        .bind(rows.ids())
        .fetch_all(conn)
        .await
}

/// Sets sagas aside whose graph no live process knows. Returns id, definition and graph of each. The last holder of a saga
/// stays stored, so that the claim that follows records its attempt as lost.
pub(crate) async fn set_aside_unknown(
    conn: &mut PgConnection,
    unknown: Unknown<'_>,
    rows: Rows<'_>,
) -> Result<Vec<(Uuid, String, String)>, sqlx::Error> {
    let sql = format!(
        "update engine.saga set waits_for = 'version', due_at = null, lease_until = null \
         where id in ({} for update of s skip locked) returning id, definition, graph_hash",
        unknown.sql(rows)
    );
    sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(unknown.queues)
        .bind(unknown.own_hashes)
        .bind(unknown.overdue_ms)
        .bind(unknown.alive_ms)
        .bind(unknown.limit)
        .bind(rows.ids())
        .fetch_all(conn)
        .await
}

/// Selects sagas of a queue that could have been claimed for longer than `older_ms`, the longest first.
pub(crate) async fn overlooked(
    conn: &mut PgConnection,
    queue: &str,
    hashes: &[String],
    older_ms: i64,
    limit: i64,
) -> Result<Vec<Uuid>, sqlx::Error> {
    let part = |since: &str| {
        format!(
            "(select id from engine.saga where queue = $1 and {since} < now() - $3 * interval '1 ms' \
                  and graph_hash = any($2) and not {SUSPECT} \
              order by {since} limit $4)"
        )
    };
    let sql = format!("{} union all {}", part("due_at"), part("lease_until"));
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
        .bind(queue)
        .bind(hashes)
        .bind(older_ms)
        .bind(limit)
        .fetch_all(conn)
        .await
}
