//! Stores the reports of circuit breakers.

use std::time::Duration;

use breakers::BreakerView;
use sqlx::{PgConnection, PgPool};

use super::report::{Process, millis};

/// Reports of stopped processes are deleted after this time.
const RETENTION: Duration = Duration::from_mins(10);

/// Stores the state of a process's breakers, and deletes the reports of processes that stopped long ago.
///
/// # Errors
/// When the database refuses or can't be reached.
pub async fn report(pool: &PgPool, process: Process<'_>, views: &[BreakerView]) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    if !views.is_empty() {
        upsert(&mut transaction, process, views).await?;
    }
    purge(&mut transaction).await?;
    transaction.commit().await
}

async fn upsert(
    conn: &mut PgConnection,
    process: Process<'_>,
    views: &[BreakerView],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into shop.circuit_breaker as c
             (process_id, process, dependency, state, failures, opened_at, next_probe_at, threshold, open_ms, probes)
         select $1, $2, dependency, state, failures,
                clock_timestamp() - opened_ago_ms * interval '1 ms', clock_timestamp() + probe_in_ms * interval '1 ms',
                threshold, open_ms, probes
         from unnest($3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[],
                     $10::bigint[])
              as v (dependency, state, failures, opened_ago_ms, probe_in_ms, threshold, open_ms, probes)
         on conflict (process_id, dependency) do update set
             state = excluded.state, failures = excluded.failures, opened_at = excluded.opened_at,
             next_probe_at = excluded.next_probe_at, threshold = excluded.threshold, open_ms = excluded.open_ms,
             probes = excluded.probes, seen_at = clock_timestamp(),
             changed_at = case when c.state = excluded.state then c.changed_at else clock_timestamp() end",
    )
    .bind(process.id)
    .bind(process.name)
    .bind(views.iter().map(|view| view.dependency.name()).collect::<Vec<_>>())
    .bind(views.iter().map(|view| view.state.name()).collect::<Vec<_>>())
    .bind(views.iter().map(|view| i64::from(view.failures)).collect::<Vec<_>>())
    .bind(views.iter().map(|view| view.opened_ago.map(millis)).collect::<Vec<_>>())
    .bind(views.iter().map(|view| view.next_probe_in.map(millis)).collect::<Vec<_>>())
    .bind(views.iter().map(|view| i64::from(view.settings.failures.max(1))).collect::<Vec<_>>())
    .bind(views.iter().map(|view| millis(view.settings.open_duration)).collect::<Vec<_>>())
    .bind(views.iter().map(|view| i64::from(view.settings.successes_to_close.max(1))).collect::<Vec<_>>())
    .execute(conn)
    .await
    .map(drop)
}

async fn purge(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("delete from shop.circuit_breaker where seen_at < clock_timestamp() - $1 * interval '1 ms'")
        .bind(millis(RETENTION))
        .execute(conn)
        .await
        .map(drop)
}

/// Deletes the reports of a process, when it stops.
///
/// # Errors
/// When the database refuses or can't be reached.
pub async fn withdraw(pool: &PgPool, process: Process<'_>) -> Result<(), sqlx::Error> {
    sqlx::query("delete from shop.circuit_breaker where process_id = $1")
        .bind(process.id)
        .execute(pool)
        .await
        .map(drop)
}
