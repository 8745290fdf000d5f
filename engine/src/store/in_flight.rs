//! Statements about sagas in flight: which they are, and moving them to another graph.

use serde_json::value::RawValue;
use sqlx::{PgConnection, types::Json};
use sqlx_macros::FromRow;
use uuid::Uuid;

use crate::store::saga_state::SagaStateRow;

/// A saga that is unfinished, or dead and not given up.
#[derive(FromRow)]
pub(crate) struct InFlightRow {
    pub(crate) id: Uuid,
    pub(crate) definition: String,
    pub(crate) graph_hash: String,
    pub(crate) step: String,
    #[sqlx(flatten)]
    pub(crate) state: SagaStateRow,
    pub(crate) epoch: i64,
    pub(crate) history_seq: i32,
    /// Whether a worker holds it, or held it until its lease ended.
    pub(crate) leased: bool,
    /// Whether it is set aside, and its last worker vanished during the attempt.
    pub(crate) lost: bool,
    pub(crate) input: Json<Box<RawValue>>,
}

const COLUMNS: &str = "id, definition, graph_hash, step, status, direction, attempt, lost_attempts, in_doubt, cause, \
     arms, round, epoch, \
     history_seq, lease_until is not null as leased, lease_owner is not null and lease_until is null as lost, input";

/// Selects those of these sagas that are in flight, and children that have completed.
pub(crate) async fn sagas(conn: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<InFlightRow>, sqlx::Error> {
    let sql = format!(
        "select {COLUMNS} from engine.saga \
         where id = any($1) and (status in ('running', 'compensating') or status = 'dead' and ended_at is null \
             or status = 'completed' and root_id is not null)"
    );
    sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(ids).fetch_all(conn).await
}

/// A list of ids that is read in pages, however long it is. It lasts until it is closed, or the
/// transaction ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum IdList {
    /// The sagas that are unfinished, or dead and not given up. Partial indexes find them all.
    Unfinished,
    /// Sagas that have completed and may still be undone.
    Undoable,
}

impl IdList {
    fn name(self) -> &'static str {
        match self {
            Self::Unfinished => "in_flight_unfinished",
            Self::Undoable => "in_flight_undoable",
        }
    }
}

/// Opens [`IdList::Unfinished`], in the caller's transaction.
pub(crate) async fn open_unfinished(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(
        "declare in_flight_unfinished no scroll cursor for \
             select id from engine.saga where due_at is not null \
             union select id from engine.saga where lease_until is not null \
             union select id from engine.saga where waits_for is not null \
             union select id from engine.saga where status = 'dead' and ended_at is null",
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Opens [`IdList::Undoable`], in the caller's transaction: the children of these unfinished sagas that have completed,
/// and those of such children, but none behind the pivot of its parent, or of a parent that is past its pivot.
pub(crate) async fn open_undoable(conn: &mut PgConnection, unfinished: &[Uuid]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "declare in_flight_undoable no scroll cursor for \
         with recursive behind (hash, step) as materialized ( \
             select g.hash, node ->> 'name' \
             from engine.graph g cross join lateral jsonb_array_elements(g.graph -> 'steps') node \
             where node ->> 'placement' = 'after_pivot' \
         ), undoable (id, graph_hash) as ( \
             select c.id, c.graph_hash from engine.saga p join engine.saga c on c.parent_id = p.id \
             where p.id = any($1) and c.status = 'completed' \
                 and (p.direction = 'undo' \
                     or not exists (select from behind b where b.hash = p.graph_hash and b.step = p.step)) \
                 and not exists (select from behind b where b.hash = p.graph_hash and b.step = c.parent_step) \
             union all \
             select c.id, c.graph_hash from undoable p join engine.saga c on c.parent_id = p.id \
             where c.status = 'completed' \
                 and not exists (select from behind b where b.hash = p.graph_hash and b.step = c.parent_step) \
         ) select id from undoable",
    )
    .bind(unfinished)
    .execute(conn)
    .await
    .map(drop)
}

/// Reads the next ids of a list; none at its end.
pub(crate) async fn next_ids(
    conn: &mut PgConnection,
    list: IdList,
    limit: usize,
) -> Result<Vec<Uuid>, sqlx::Error> {
    let sql = format!("fetch forward {limit} from {}", list.name());
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).persistent(false).fetch_all(conn).await
}

/// Closes a list.
pub(crate) async fn close_ids(conn: &mut PgConnection, list: IdList) -> Result<(), sqlx::Error> {
    let sql = format!("close {}", list.name());
    sqlx::query(sqlx::AssertSqlSafe(sql)).persistent(false).execute(conn).await.map(drop)
}

/// Selects the ids of the sagas of a graph that are in flight: first those that are running, that nobody holds and that
/// are not in doubt, each kind the oldest first. Partial indexes find them all.
pub(crate) async fn ids_of_graph(
    conn: &mut PgConnection,
    hash: &str,
    limit: i64,
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "select id from ( \
             select id, status, in_doubt, lease_until from engine.saga where due_at is not null and graph_hash = $1 \
             union select id, status, in_doubt, lease_until from engine.saga \
                 where lease_until is not null and graph_hash = $1 \
             union select id, status, in_doubt, lease_until from engine.saga \
                 where waits_for is not null and graph_hash = $1 \
             union select id, status, in_doubt, lease_until from engine.saga \
                 where status = 'dead' and ended_at is null and graph_hash = $1 \
         ) s order by status <> 'running', in_doubt, lease_until is not null, id limit $2",
    )
    .bind(hash)
    .bind(limit)
    .fetch_all(conn)
    .await
}

/// The graph to which a saga is moved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewGraph<'a> {
    pub(crate) hash: &'a str,
    pub(crate) queue: &'a str,
}

/// Moves a saga, given by its id, epoch and history number, to another graph and its queue. One that waited for a
/// process which knows its graph is due at once. Returns whether it still was as given; fails if another transaction
/// holds it.
pub(crate) async fn move_saga(
    conn: &mut PgConnection,
    (id, epoch, history_seq): (Uuid, i64, i32),
    from: &str,
    to: NewGraph<'_>,
) -> Result<bool, sqlx::Error> {
    sqlx::query(
        "update engine.saga set graph_hash = $5, queue = $6, epoch = epoch + 1, \
             due_at = case when waits_for = 'version' then clock_timestamp() else due_at end, \
             waits_for = nullif(waits_for, 'version') \
         where id in (select id from engine.saga where id = $1 and epoch = $2 and history_seq = $3 and graph_hash = $4 \
                 and status = 'running' and lease_until is null and not in_doubt for update nowait)",
    )
    .bind(id)
    .bind(epoch)
    .bind(history_seq)
    .bind(from)
    .bind(to.hash)
    .bind(to.queue)
    .execute(conn)
    .await
    .map(|done| done.rows_affected() == 1)
}
