//! Statements about stored graphs and who knows them.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use sqlx_macros::FromRow;

use crate::model::{
    ids::WorkerId,
    known_graph::{GraphProcess, KnownGraph},
};

/// Selects the graphs of a definition, the newest first, without who knows them.
pub(crate) async fn of(
    conn: &mut PgConnection,
    definition: &str,
    limit: i64,
) -> Result<Vec<KnownGraph>, sqlx::Error> {
    let rows: Vec<(String, DateTime<Utc>)> = sqlx::query_as(
        "select hash, first_seen_at from engine.graph where definition = $1 \
         order by first_seen_at desc, hash limit $2",
    )
    .bind(definition)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    let graph = |(hash, first_seen_at)| KnownGraph {
        hash,
        first_seen_at,
        sagas: 0,
        known_by: 0,
        processes: Vec::new(),
    };
    Ok(rows.into_iter().map(graph).collect())
}

/// Counts the sagas of these graphs that have not ended. Partial indexes find them all.
pub(crate) async fn sagas(
    conn: &mut PgConnection,
    hashes: &[String],
) -> Result<Vec<(String, i64)>, sqlx::Error> {
    sqlx::query_as(
        "select graph_hash, count(*) from ( \
             select id, graph_hash from engine.saga where due_at is not null \
             union select id, graph_hash from engine.saga where lease_until is not null \
             union select id, graph_hash from engine.saga where waits_for is not null \
             union select id, graph_hash from engine.saga where status = 'dead' and ended_at is null \
         ) unended where graph_hash = any($1) group by graph_hash",
    )
    .bind(hashes)
    .fetch_all(conn)
    .await
}

#[derive(FromRow)]
struct ProcessRow {
    hash: String,
    id: WorkerId,
    host: String,
    pid: i32,
    role: String,
    version: String,
    works: bool,
}

/// Selects the processes that have told for `alive_ms` that they live, once for each of these graphs that they know.
pub(crate) async fn processes(
    conn: &mut PgConnection,
    hashes: &[String],
    alive_ms: i64,
) -> Result<Vec<(String, GraphProcess)>, sqlx::Error> {
    let rows: Vec<ProcessRow> = sqlx::query_as(
        "select known.hash, p.id, p.host, p.pid, p.role, p.version, p.queues <> '{}' as works \
         from engine.process p cross join lateral unnest(p.hashes) known (hash) \
         where p.seen_at > clock_timestamp() - $2 * interval '1 ms' and known.hash = any($1) \
         order by p.started_at, p.id",
    )
    .bind(hashes)
    .bind(alive_ms)
    .fetch_all(conn)
    .await?;
    let process = |ProcessRow { hash, id, host, pid, role, version, works }| {
        (hash, GraphProcess { id, host, pid, role, version, works })
    };
    Ok(rows.into_iter().map(process).collect())
}
