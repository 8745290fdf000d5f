//! Statements that archive and prune dead jobs whose time to live is over.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use sqlx_macros::FromRow;
use uuid::Uuid;

use crate::model::{
    dead_job::{ArchivedDeadJob, DeadJobFilter},
    page::{Page, PageOf},
};
use crate::{
    store::{
        dead_jobs::{COLUMNS, DeadJobRow, MATCHES, arguments},
        rows::Rows,
    },
    support::{
        bounded_list::{ListCost, ListError, read_list},
        page::{page_rows, read_page},
    },
};

/// Selects expired dead jobs with their sagas, the longest overdue first. `rows` are those of these sagas. A dead job for
/// which an operator has requested something does not expire before that is carried out or refused.
pub(crate) async fn expired(
    pool: &PgPool,
    limit: u32,
    rows: Rows<'_>,
) -> Result<Vec<(Uuid, Uuid)>, sqlx::Error> {
    let rows_condition = rows.and("saga_id", 2);
    let sql = format!(
        "select id, saga_id from engine.dead_job where expires_at <= now() \
             and (request is null or resolution is not null){rows_condition} order by expires_at limit $1"
    );
    sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(i64::from(limit)).bind(rows.ids()).fetch_all(pool).await
}

/// Locks a saga; `false` if another transaction holds the lock, or there is no such saga.
pub(crate) async fn lock_saga(conn: &mut PgConnection, id: Uuid) -> Result<bool, sqlx::Error> {
    let locked: Option<Uuid> =
        sqlx::query_scalar("select id from engine.saga where id = $1 for update skip locked")
            .bind(id)
            .fetch_optional(conn)
            .await?;
    Ok(locked.is_some())
}

/// Moves a dead job, locked by the caller, to the archive.
pub(crate) async fn archive(conn: &mut PgConnection, id: Uuid, why: &str) -> Result<(), sqlx::Error> {
    let sql = format!(
        "with moved as (delete from engine.dead_job where id = $1 returning {COLUMNS}, payload) \
         insert into engine.dead_job_archive ({COLUMNS}, payload, why) select {COLUMNS}, payload, $2 from moved"
    );
    sqlx::query(sqlx::AssertSqlSafe(sql)).bind(id).bind(why).execute(conn).await.map(drop)
}

/// Sets a dead job to never expire.
pub(crate) async fn never_expire(conn: &mut PgConnection, id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query("update engine.dead_job set expires_at = null where id = $1")
        .bind(id)
        .execute(conn)
        .await
        .map(drop)
}

/// Postpones by a day a dead job that could not be archived, so that it does not block the others.
pub(crate) async fn postpone(conn: &mut PgConnection, id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update engine.dead_job set expires_at = clock_timestamp() + interval '1 day' where id = $1 and expires_at <= now()",
    )
    .bind(id)
    .execute(conn)
    .await
    .map(drop)
}

/// Archived dead jobs whose retention is over, oldest first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prunable {
    pub(crate) keep_ms: i64,
    /// At most so many.
    pub(crate) limit: u32,
}

impl Prunable {
    fn sql(rows: Rows<'_>) -> String {
        let rows = rows.and("id", 3);
        format!(
            "select id from engine.dead_job_archive \
             where archived_at < clock_timestamp() - $1 * interval '1 ms'{rows} order by archived_at limit $2"
        )
    }
}

/// Selects the ids of archived dead jobs whose retention is over.
pub(crate) async fn prunable(
    conn: &mut PgConnection,
    prunable: Prunable,
    rows: Rows<'_>,
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(sqlx::AssertSqlSafe(Prunable::sql(rows)))
        .bind(prunable.keep_ms)
        .bind(i64::from(prunable.limit))
        .bind(rows.ids())
        .fetch_all(conn)
        .await
}

/// Deletes archived dead jobs whose retention is over; returns their ids.
pub(crate) async fn prune(
    conn: &mut PgConnection,
    prunable: Prunable,
    rows: Rows<'_>,
) -> Result<Vec<Uuid>, sqlx::Error> {
    let sql = format!(
        "delete from engine.dead_job_archive where id in ({} for update skip locked) returning id",
        Prunable::sql(rows)
    );
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
        .bind(prunable.keep_ms)
        .bind(i64::from(prunable.limit))
        .bind(rows.ids())
        .fetch_all(conn)
        .await
}

/// Whether a dead job is in the archive.
pub(crate) async fn is_archived(conn: &mut PgConnection, id: Uuid) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select exists (select from engine.dead_job_archive where id = $1)")
        .bind(id)
        .fetch_one(conn)
        .await
}

#[derive(FromRow)]
struct ArchivedRow {
    #[sqlx(flatten)]
    job: DeadJobRow,
    archived_at: DateTime<Utc>,
}

impl ArchivedRow {
    fn view(self) -> Result<ArchivedDeadJob, sqlx::Error> {
        Ok(ArchivedDeadJob { dead_job: self.job.view()?, archived_at: self.archived_at })
    }
}

pub(crate) async fn archived_dead_job(
    pool: &PgPool,
    id: Uuid,
) -> Result<Option<ArchivedDeadJob>, sqlx::Error> {
    let sql = format!("select {COLUMNS}, archived_at from engine.dead_job_archive where id = $1");
    let row: Option<ArchivedRow> =
        sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(id).fetch_optional(pool).await?;
    row.map(ArchivedRow::view).transpose()
}

#[derive(FromRow)]
struct ArchivedWithPayloadRow {
    #[sqlx(flatten)]
    archived: ArchivedRow,
    payload: serde_json::Value,
}

/// Selects an archived dead job and its payload.
pub(crate) async fn archived_dead_job_with_payload(
    pool: &PgPool,
    id: Uuid,
) -> Result<Option<(ArchivedDeadJob, serde_json::Value)>, sqlx::Error> {
    let sql = format!("select {COLUMNS}, payload, archived_at from engine.dead_job_archive where id = $1");
    let row: Option<ArchivedWithPayloadRow> =
        sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(id).fetch_optional(pool).await?;
    row.map(|row| Ok((row.archived.view()?, row.payload))).transpose()
}

/// Selects archived dead jobs, newest id first.
pub(crate) async fn archived_dead_jobs(
    pool: &PgPool,
    filter: &DeadJobFilter,
    page: Page,
) -> Result<PageOf<ArchivedDeadJob>, ListError> {
    let sql = format!(
        "select {COLUMNS}, archived_at from engine.dead_job_archive \
         where {MATCHES} and ($7::uuid is null or id < $7) order by id desc limit $8"
    );
    let limit = page.limit.clamp(1, 1000);
    let query = sqlx::query_with(sqlx::AssertSqlSafe(sql), arguments(filter)?)
        .bind(page.after)
        .bind(page_rows(limit));
    let cost = ListCost::may_scan_if(filter.may_scan());
    let rows: PageOf<ArchivedRow> =
        read_list(pool, cost, async |conn| read_page(query.fetch(conn), limit).await).await?;
    Ok(rows.try_map(ArchivedRow::view)?)
}
