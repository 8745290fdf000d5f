//! Statements for tests only: they skip time, or bypass the fence.

use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::{model::ids::WorkerId, store::commits::FencedSaga};

/// Makes all sagas due that wait for a retry.
pub(crate) async fn make_all_due(pool: &PgPool) -> Result<u64, sqlx::Error> {
    sqlx::query("update engine.saga set due_at = now() where due_at > now() and waits_since is null")
        .execute(pool)
        .await
        .map(|result| result.rows_affected())
}

/// Ends all waits for a time or a signal, as if their time were over.
pub(crate) async fn end_waits(pool: &PgPool) -> Result<u64, sqlx::Error> {
    sqlx::query(
        "update engine.saga set due_at = now(), wait_until = case when wait_until is not null then now() end where waits_for in ('sleep', 'signal') and due_at > now()",
    )
    .execute(pool)
    .await
    .map(|result| result.rows_affected())
}

/// Ends the leases of a worker.
pub(crate) async fn expire_leases(pool: &PgPool, worker: WorkerId) -> Result<u64, sqlx::Error> {
    sqlx::query("update engine.saga set lease_until = now() where lease_until > now() and lease_owner = $1")
        .bind(worker)
        .execute(pool)
        .await
        .map(|result| result.rows_affected())
}

/// As [`fence`](crate::store::commits::fence), but regardless of the lease owner: tests replace the fence by it to show
/// that the invariants notice.
pub(crate) async fn no_fence(conn: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<FencedSaga>, sqlx::Error> {
    sqlx::query_as(
        "select id, epoch, history_seq, cancel, false as deadline_passed, \
             (extract(epoch from clock_timestamp() - created_at) * 1000)::bigint as age_ms, \
             coalesce((extract(epoch from clock_timestamp() - postponed_since) * 1000)::bigint, 0) as postponed_ms, \
             wait_until, waits_since, clock_timestamp() as now, pg_backend_pid() as backend, false as has_message, \
             true as has_signals \
         from engine.saga where id = any($1) order by id for update",
    )
    .bind(ids)
    .fetch_all(conn)
    .await
}

/// Counts the rows that this transaction has inserted, updated or deleted so far in all tables.
pub(crate) async fn writes(conn: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "select coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint from pg_stat_xact_user_tables",
    )
    .fetch_one(conn)
    .await
}

/// Ends the waits of these sagas for a time or a signal, as if their time were over.
pub(crate) async fn end_waits_of(conn: &mut PgConnection, ids: &[Uuid]) -> Result<u64, sqlx::Error> {
    sqlx::query(
        "update engine.saga set due_at = now(), wait_until = case when wait_until is not null then now() end where waits_for in ('sleep', 'signal') and due_at > now() and id = any($1)",
    )
    .bind(ids)
    .execute(conn)
    .await
    .map(|result| result.rows_affected())
}

/// Selects the keys of the signals of this name that a saga has taken.
pub(crate) async fn taken_signals(pool: &PgPool, id: Uuid, name: &str) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "select key from engine.inbox where saga_id = $1 and name = $2 and kind = 'signal' and state = 'consumed'",
    )
    .bind(id)
    .bind(name)
    .fetch_all(pool)
    .await
}

/// Selects the rows of a caller's query, each as JSON.
pub(crate) async fn rows_of(pool: &PgPool, query: &str) -> Result<Vec<String>, sqlx::Error> {
    let sql = format!("select to_jsonb(q)::text from ({query}) q");
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(pool).await
}
