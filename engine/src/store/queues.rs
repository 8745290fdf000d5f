//! Statements about queues and their pauses.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use sqlx_macros::FromRow;
use uuid::Uuid;

use crate::model::queue::Pause;

/// A queue that was paused at least once.
#[derive(Debug, FromRow)]
pub(crate) struct QueueRow {
    pub(crate) name: String,
    pub(crate) paused: bool,
    pub(crate) paused_by: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) since: DateTime<Utc>,
    pub(crate) version: i64,
}

/// Selects the names of the queues that are paused now.
pub(crate) async fn paused(conn: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar("select name from engine.queue where paused").fetch_all(conn).await
}

/// Of these sagas, selects those that are in none of the queues.
pub(crate) async fn not_in_queues(
    conn: &mut PgConnection,
    ids: &[Uuid],
    queues: &[String],
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar("select id from engine.saga where id = any($1) and queue <> all($2)")
        .bind(ids)
        .bind(queues)
        .fetch_all(conn)
        .await
}

/// Selects all queues that were ever paused.
pub(crate) async fn all(pool: &PgPool) -> Result<Vec<QueueRow>, sqlx::Error> {
    sqlx::query_as("select name, paused, paused_by, reason, since, version from engine.queue order by name")
        .fetch_all(pool)
        .await
}

/// Locks a queue's row for the rest of the transaction, and returns it. Inserts the row first if it does not exist,
/// because only an existing row can be locked.
pub(crate) async fn lock(conn: &mut PgConnection, name: &str) -> Result<QueueRow, sqlx::Error> {
    sqlx::query("insert into engine.queue (name, paused) values ($1, false) on conflict (name) do nothing")
        .bind(name)
        .execute(&mut *conn)
        .await?;
    sqlx::query_as(
        "select name, paused, paused_by, reason, since, version from engine.queue where name = $1 for update",
    )
    .bind(name)
    .fetch_one(conn)
    .await
}

/// Pauses or resumes a locked queue. If nothing changes, the stored time stays.
pub(crate) async fn set(
    conn: &mut PgConnection,
    name: &str,
    pause: Option<&Pause<'_>>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update engine.queue set paused = $2, paused_by = $3, reason = $4, version = version + 1, \
             since = case when paused = $2 then since else now() end \
         where name = $1",
    )
    .bind(name)
    .bind(pause.is_some())
    .bind(pause.map(|pause| pause.actor))
    .bind(pause.map(|pause| pause.reason))
    .execute(conn)
    .await
    .map(drop)
}
