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

const COLUMNS: &str = "id, definition, graph_hash, step, status, direction, attempt, lost_attempts, in_doubt, cause, arms, round, epoch, \
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

/// Selects the descendants of these sagas that have completed and may still be undone: not those behind the pivot of their
/// parent.
pub(crate) async fn completed_descendants(
    conn: &mut PgConnection,
    ids: &[Uuid],
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "select c.id from engine.saga c where c.root_id = any($1) and c.status = 'completed' and not exists ( \
             select from engine.saga p join engine.graph g on g.hash = p.graph_hash \
             cross join lateral jsonb_array_elements(g.graph -> 'steps') node \
             where p.id = c.parent_id and node ->> 'name' = c.parent_step and node ->> 'placement' = 'after_pivot')",
    )
        .bind(ids)
        .fetch_all(conn)
        .await
}

/// Selects the ids of the sagas of a graph that are in flight: first those that are running, that nobody holds and that are
/// not in doubt, each kind the oldest first. Partial indexes find them all.
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

/// Moves a saga, given by its id, epoch and history number, to another graph and its queue. One that waited for a process which knows its
/// graph is due at once. Returns whether it still was as given; fails if another transaction holds it.
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
