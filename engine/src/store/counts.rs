//! Statements that count unfinished sagas.

use std::time::Duration;

use sqlx::PgPool;

use crate::{
    model::{
        queue::QueueDepth,
        views::{StatusCount, WaitingCount},
    },
    store::queries::unreadable,
};

/// Counts the due, waiting and leased sagas of each queue that has any.
pub(crate) async fn queue_depths(pool: &PgPool) -> Result<Vec<QueueDepth>, sqlx::Error> {
    let rows: Vec<(String, i64, i64, i64, i64)> = sqlx::query_as(
        "select queue, \
             count(*) filter (where due_at <= now()), \
             count(*) filter (where due_at > now() or lease_until is null and due_at is null), \
             count(*) filter (where lease_until is not null), \
             coalesce(max(extract(epoch from now() - due_at) * 1000) filter (where due_at <= now()), 0)::bigint \
         from ( \
             select queue, due_at, lease_until from engine.saga where due_at is not null \
             union all select queue, due_at, lease_until from engine.saga where lease_until is not null \
             union all select queue, due_at, lease_until from engine.saga \
                 where waits_for is not null and due_at is null and lease_until is null \
         ) active group by queue order by queue",
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(queue, due, waiting, leased, oldest_due_ms)| QueueDepth {
            queue,
            due,
            waiting,
            leased,
            oldest_due_ms,
        })
        .collect())
}

/// Counts the sagas that wait for something besides their due time, by what they wait for, and under `child_version`
/// those of which a child waits for a version.
pub(crate) async fn waiting_counts(pool: &PgPool) -> Result<Vec<WaitingCount>, sqlx::Error> {
    let rows: Vec<(String, i64, Option<f64>)> = sqlx::query_as(
        "select w.waits_for, w.sagas, extract(epoch from clock_timestamp() - ( \
             select min(s.waits_since) from engine.saga s where s.waits_for = w.waits_for \
             and s.waits_since is not null \
         ))::float8 \
         from (select waits_for, count(*) as sagas from engine.saga where waits_for is not null group by waits_for) w \
         union all \
         select 'child_version', count(distinct parent_id), null from engine.saga \
             where waits_for = 'version' and parent_id is not null having count(*) > 0",
    )
    .fetch_all(pool)
    .await?;
    let count = |(waits_for, sagas, secs): (String, i64, Option<f64>)| {
        let waits = ["sleep", "signal", "children"].contains(&waits_for.as_str());
        let oldest = secs.filter(|_| waits).and_then(|secs| Duration::try_from_secs_f64(secs).ok());
        WaitingCount { waits_for, sagas, oldest }
    };
    Ok(rows.into_iter().map(count).collect())
}

/// Counts the active and dead sagas of each definition; completed and compensated ones are not counted.
pub(crate) async fn status_counts(pool: &PgPool) -> Result<Vec<StatusCount>, sqlx::Error> {
    let rows: Vec<(String, String, i64)> = sqlx::query_as(
        "select definition, status, count(*) from ( \
             select definition, status from engine.saga where due_at is not null \
             union all select definition, status from engine.saga where lease_until is not null \
             union all select definition, status from engine.saga \
                 where waits_for is not null and due_at is null and lease_until is null \
         ) active group by definition, status \
         union all \
         select definition, 'dead', count(*) from engine.dead_job where resolution is null group by definition \
         order by 1, 2",
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|(definition, status, count)| {
            let status = status.parse().map_err(|error: String| unreadable(error))?;
            Ok(StatusCount { definition, status, count })
        })
        .collect()
}
