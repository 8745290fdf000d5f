//! The statement that writes how far calls are.

use std::time::Duration;

use sqlx::PgConnection;
use uuid::Uuid;

use crate::model::{ids::WorkerId, progress::Progress, status::Direction};

/// The progress of one call.
#[derive(Debug)]
pub(crate) struct ProgressRow<'a> {
    pub(crate) saga_id: Uuid,
    pub(crate) epoch: i64,
    pub(crate) step: &'a str,
    pub(crate) direction: Direction,
    pub(crate) attempt: i32,
    pub(crate) progress: &'a Progress,
    /// How long ago the call reported it.
    pub(crate) age: Duration,
}

/// Writes the progress of calls, as far as the worker holds their sagas and these stand at the same step, and returns the
/// ids of those whose progress was written. The rows are in the order of their ids.
///
/// It locks no saga, so it neither waits for a commit nor holds one up. A worker may lose a claim while it writes; then
/// the epoch in the row keeps it from replacing what the next has written.
pub(crate) async fn write(
    conn: &mut PgConnection,
    rows: &[ProgressRow<'_>],
    worker: WorkerId,
) -> Result<Vec<Uuid>, sqlx::Error> {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    sqlx::query_scalar(
        "insert into engine.progress as p (saga_id, epoch, step, direction, attempt, done, total, note, updated_at) \
         select s.id, s.epoch, s.step, s.direction, r.attempt, r.done, r.total, r.note, \
             clock_timestamp() - r.age_ms * interval '1 ms' \
         from unnest($2::uuid[], $3::bigint[], $4::text[], $5::text[], $6::int[], $7::bigint[], $8::bigint[], $9::text[], \
                 $10::bigint[]) as r (id, epoch, step, direction, attempt, done, total, note, age_ms) \
             join engine.saga s on s.id = r.id and s.epoch = r.epoch and s.lease_owner = $1 and s.step = r.step \
                 and s.direction = r.direction \
         order by r.id \
         on conflict (saga_id) do update set epoch = excluded.epoch, step = excluded.step, direction = excluded.direction, \
             attempt = excluded.attempt, done = excluded.done, total = excluded.total, note = excluded.note, \
             updated_at = excluded.updated_at \
         where p.epoch <= excluded.epoch \
         returning p.saga_id",
    )
    .bind(worker)
    .bind(rows.iter().map(|row| row.saga_id).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.epoch).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.step).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.direction.name()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.attempt).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| number(row.progress.done())).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.progress.total().map(number)).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.progress.noted()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| i64::try_from(row.age.as_millis()).unwrap_or(i64::MAX)).collect::<Vec<_>>())
    .fetch_all(conn)
    .await
}
