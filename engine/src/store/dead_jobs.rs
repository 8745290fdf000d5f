//! Statements about open and resolved dead jobs.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{Arguments, PgConnection, PgPool, postgres::PgArguments, types::Json};
use sqlx_macros::FromRow;
use uuid::Uuid;

use crate::model::{
    dead_job::{
        DeadJob, DeadJobErrorCount, DeadJobErrorEntry, DeadJobFilter, DeadJobKindCount, DeadJobResolution,
        DeadJobTtls, DeadLettered,
    },
    dead_job_request::DeadJobAction,
    ids::{DeadJobId, SagaId},
    page::{Page, PageOf},
};
use crate::{
    store::{rows::Rows, saga_state::SagaStateRow},
    support::{
        bounded_list::{ListCost, ListError, read_list},
        page::{page_rows, read_page},
    },
};

#[derive(FromRow)]
struct DeadLetteredRow {
    id: Uuid,
    saga_id: Uuid,
    definition: String,
    queue: String,
    step: String,
    direction: String,
    attempts: i32,
    error: String,
}

/// Creates dead jobs for sagas that died in this transaction, with every error of the side of the step at which they
/// died. Dead jobs of failed undos never expire, because giving them up would leave effects that are not undone.
pub(crate) async fn insert(
    conn: &mut PgConnection,
    ids: &[Uuid],
    sagas: &[Uuid],
    ttls: &DeadJobTtls,
) -> Result<Vec<DeadLettered>, sqlx::Error> {
    let millis = |ttl: &Option<Duration>| ttl.map(|ttl| i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX));
    let rows: Vec<DeadLetteredRow> = sqlx::query_as(
        "insert into engine.dead_job (id, saga_id, definition, queue, step, direction, attempts, error, errors, payload, \
             first_failed_at, expires_at) \
         select d.id, s.id, s.definition, s.queue, s.step, s.direction, s.attempt, coalesce(s.error, 'no error was given'), \
             coalesce(e.errors, '[]'), s.input, coalesce(e.first_at, clock_timestamp()), \
             case when s.direction = 'action' then \
                 clock_timestamp() + case when t.definition is null then $3 else t.ttl_ms end * interval '1 ms' end \
         from unnest($1::uuid[], $2::uuid[]) as d (id, saga_id) \
         join engine.saga s on s.id = d.saga_id \
         left join unnest($4::text[], $5::bigint[]) as t (definition, ttl_ms) on t.definition = s.definition \
         left join lateral ( \
             select jsonb_agg(jsonb_build_object('attempt', h.attempt, \
                         'at', h.started_at + h.duration_ms * interval '1 ms', 'outcome', h.outcome, \
                         'error', coalesce(h.error, '[]')) order by h.seq) as errors, \
                 min(h.started_at) as first_at \
             from engine.history h \
             where h.saga_id = s.id and h.step = s.step and h.direction = s.direction \
                 and h.outcome in ('retry', 'failed', 'lost', 'dead_lettered', 'exhausted') \
         ) e on true \
         returning id, saga_id, definition, queue, step, direction, attempts, error",
    )
    .bind(ids)
    .bind(sagas)
    .bind(millis(&ttls.default))
    .bind(ttls.by_definition.keys().map(String::as_str).collect::<Vec<_>>())
    .bind(ttls.by_definition.values().map(millis).collect::<Vec<_>>())
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(DeadLetteredRow::dead_lettered).collect()
}

impl DeadLetteredRow {
    fn dead_lettered(self) -> Result<DeadLettered, sqlx::Error> {
        Ok(DeadLettered {
            dead_job_id: DeadJobId(self.id),
            saga_id: SagaId(self.saga_id),
            definition: self.definition,
            queue: self.queue,
            step: self.step,
            direction: self.direction.parse().map_err(unreadable)?,
            attempts: u32::try_from(self.attempts).unwrap_or_default(),
            error: self.error,
        })
    }
}

/// Selects the saga of a dead job, without a lock.
pub(crate) async fn dead_job_saga(conn: &mut PgConnection, id: Uuid) -> Result<Option<Uuid>, sqlx::Error> {
    sqlx::query_scalar("select saga_id from engine.dead_job where id = $1")
        .bind(id)
        .fetch_optional(conn)
        .await
}

/// A dead job that is locked.
#[derive(Debug, FromRow)]
pub(crate) struct LockedDeadJob {
    pub(crate) resolution: Option<String>,
    /// What was asked for while it was open, in the form in which it is stored.
    pub(crate) request: Option<serde_json::Value>,
}

/// Locks a dead job.
pub(crate) async fn lock(conn: &mut PgConnection, id: Uuid) -> Result<Option<LockedDeadJob>, sqlx::Error> {
    sqlx::query_as("select resolution, request from engine.dead_job where id = $1 for update")
        .bind(id)
        .fetch_optional(conn)
        .await
}

/// Resolves the open dead job of a saga and returns its id. What was requested is void with it. A dead job without an expiry
/// is archived thirty days later.
pub(crate) async fn resolve(
    conn: &mut PgConnection,
    saga_id: Uuid,
    resolution: DeadJobResolution,
    actor: &str,
    reason: &str,
) -> Result<Option<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "update engine.dead_job set resolution = $2, resolved_by = $3, resolved_reason = $4, \
             resolved_at = clock_timestamp(), request = null, expires_at = coalesce(expires_at, clock_timestamp() + interval '30 days') \
         where saga_id = $1 and resolution is null returning id",
    )
    .bind(saga_id)
    .bind(resolution.name())
    .bind(actor)
    .bind(reason)
    .fetch_optional(conn)
    .await
}

#[derive(FromRow)]
pub(super) struct DeadJobRow {
    id: Uuid,
    saga_id: Uuid,
    definition: String,
    queue: String,
    step: String,
    direction: String,
    attempts: i32,
    error: String,
    errors: Json<Vec<DeadJobErrorEntry>>,
    first_failed_at: DateTime<Utc>,
    died_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    resolution: Option<String>,
    resolved_by: Option<String>,
    resolved_reason: Option<String>,
    resolved_at: Option<DateTime<Utc>>,
    request: Option<serde_json::Value>,
    refused_request: Option<serde_json::Value>,
}

impl DeadJobRow {
    pub(super) fn view(self) -> Result<DeadJob, sqlx::Error> {
        // An older version resolves a dead job without regard to requests.
        let requested = self.request.filter(|_| self.resolution.is_none());
        Ok(DeadJob {
            dead_job_id: DeadJobId(self.id),
            saga_id: SagaId(self.saga_id),
            definition: self.definition,
            queue: self.queue,
            step: self.step,
            direction: self.direction.parse().map_err(unreadable)?,
            attempts: u32::try_from(self.attempts).unwrap_or_default(),
            error: self.error,
            errors: self.errors.0,
            first_failed_at: self.first_failed_at,
            died_at: self.died_at,
            expires_at: self.expires_at,
            resolution: self.resolution.as_deref().map(str::parse).transpose().map_err(unreadable)?,
            resolved_by: self.resolved_by,
            resolved_reason: self.resolved_reason,
            resolved_at: self.resolved_at,
            // A newer version may store requests in another form.
            requested: requested.and_then(|request| serde_json::from_value(request).ok()),
            refused_request: self.refused_request.and_then(|refused| serde_json::from_value(refused).ok()),
        })
    }
}

fn unreadable(error: String) -> sqlx::Error {
    sqlx::Error::Decode(error.into())
}

/// All columns but `payload`.
pub(super) const COLUMNS: &str = "id, saga_id, definition, queue, step, direction, attempts, error, errors, \
     first_failed_at, died_at, expires_at, resolution, resolved_by, resolved_reason, resolved_at, request, \
     refused_request";

/// The condition of a filter, with the parameters that [`arguments`] binds.
pub(super) const MATCHES: &str = "($1::text is null or definition = $1) and ($2::text is null or step = $2) \
     and ($3::text is null or position(lower($3) in lower(error)) > 0) \
     and ($4::timestamptz is null or died_at < $4) and ($5::timestamptz is null or died_at > $5) \
     and ($6 or resolution is null)";

/// The arguments of [`MATCHES`]; callers bind further ones from the seventh on.
pub(super) fn arguments(filter: &DeadJobFilter) -> Result<PgArguments, sqlx::Error> {
    let mut arguments = PgArguments::default();
    let added = arguments
        .add(filter.definition.as_deref())
        .and_then(|()| arguments.add(filter.step.as_deref()))
        .and_then(|()| arguments.add(filter.error_contains.as_deref()))
        .and_then(|()| arguments.add(filter.died_before))
        .and_then(|()| arguments.add(filter.died_after))
        .and_then(|()| arguments.add(filter.with_resolved));
    added.map_err(sqlx::Error::Encode)?;
    Ok(arguments)
}

pub(crate) async fn dead_job(pool: &PgPool, id: Uuid) -> Result<Option<DeadJob>, sqlx::Error> {
    let sql = format!("select {COLUMNS} from engine.dead_job where id = $1");
    let row: Option<DeadJobRow> =
        sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(id).fetch_optional(pool).await?;
    row.map(DeadJobRow::view).transpose()
}

#[derive(FromRow)]
struct DeadJobWithPayloadRow {
    #[sqlx(flatten)]
    job: DeadJobRow,
    payload: serde_json::Value,
}

/// Selects a dead job and its payload.
pub(crate) async fn dead_job_with_payload(
    pool: &PgPool,
    id: Uuid,
) -> Result<Option<(DeadJob, serde_json::Value)>, sqlx::Error> {
    let sql = format!("select {COLUMNS}, payload from engine.dead_job where id = $1");
    let row: Option<DeadJobWithPayloadRow> =
        sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(id).fetch_optional(pool).await?;
    row.map(|row| Ok((row.job.view()?, row.payload))).transpose()
}

/// Selects dead jobs, newest id first.
pub(crate) async fn dead_jobs(
    pool: &PgPool,
    filter: &DeadJobFilter,
    page: Page,
) -> Result<PageOf<DeadJob>, ListError> {
    let sql = format!(
        "select {COLUMNS} from engine.dead_job where {MATCHES} and ($7::uuid is null or id < $7) \
         order by id desc limit $8"
    );
    let limit = page.limit.clamp(1, 1000);
    let query = sqlx::query_with(sqlx::AssertSqlSafe(sql), arguments(filter)?)
        .bind(page.after)
        .bind(page_rows(limit));
    let cost = ListCost::may_scan_if(filter.may_scan());
    let rows: PageOf<DeadJobRow> =
        read_list(pool, cost, async |conn| read_page(query.fetch(conn), limit).await).await?;
    Ok(rows.try_map(DeadJobRow::view)?)
}

/// An open dead job and the state of its saga.
#[derive(FromRow)]
pub(crate) struct OpenDeadJobRow {
    pub(crate) id: Uuid,
    pub(crate) saga_id: Uuid,
    pub(crate) definition: String,
    pub(crate) graph_hash: String,
    pub(crate) step: String,
    #[sqlx(flatten)]
    pub(crate) state: SagaStateRow,
}

/// The open dead jobs that an action on many looks at, starting after `after`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenDeadJobs<'a> {
    pub(crate) filter: &'a DeadJobFilter,
    pub(crate) cost: ListCost,
    pub(crate) after: Option<Uuid>,
    /// Leaves out those for which this action is requested already.
    pub(crate) not_requested: Option<DeadJobAction>,
    /// But not those of these graphs.
    pub(crate) own_hashes: &'a [String],
    pub(crate) limit: u32,
}

/// Selects open dead jobs, oldest first.
pub(crate) async fn open(pool: &PgPool, jobs: OpenDeadJobs<'_>) -> Result<Vec<OpenDeadJobRow>, ListError> {
    let OpenDeadJobs { filter, cost, after, not_requested, own_hashes, limit } = jobs;
    let sql = format!(
        "with job as materialized ( \
             select id, saga_id from engine.dead_job where {MATCHES} and resolution is null \
                 and ($7::uuid is null or id > $7) \
                 and ($9::jsonb is null or request is null or request -> 'action' <> $9 \
                     or request ->> 'graph_hash' = any($10)) order by id limit $8 \
         ) \
         select job.id, job.saga_id, s.definition, s.graph_hash, s.step, s.status, s.direction, s.attempt, s.lost_attempts, \
             s.in_doubt, s.cause, s.arms, s.round \
         from job join engine.saga s on s.id = job.saga_id order by job.id"
    );
    let query = sqlx::query_as_with(sqlx::AssertSqlSafe(sql), arguments(filter)?)
        .bind(after)
        .bind(i64::from(limit))
        .bind(not_requested.map(Json))
        .bind(own_hashes);
    read_list(pool, cost, async |conn| query.fetch_all(conn).await).await
}

/// Counts matching dead jobs.
pub(crate) async fn count(pool: &PgPool, filter: &DeadJobFilter) -> Result<i64, ListError> {
    let sql = format!("select count(*) from engine.dead_job where {MATCHES}");
    let query = sqlx::query_scalar_with(sqlx::AssertSqlSafe(sql), arguments(filter)?);
    read_list(pool, ListCost::MayScan, async |conn| query.fetch_one(conn).await).await
}

#[derive(FromRow)]
struct KindRow {
    definition: String,
    step: String,
    direction: String,
    count: i64,
    oldest_died_at: DateTime<Utc>,
    newest_died_at: DateTime<Utc>,
}

/// Counts matching dead jobs by the step at which they died, highest first.
pub(crate) async fn by_kind(
    conn: &mut PgConnection,
    filter: &DeadJobFilter,
) -> Result<Vec<DeadJobKindCount>, sqlx::Error> {
    let sql = format!(
        "select definition, step, direction, count(*) as count, min(died_at) as oldest_died_at, \
             max(died_at) as newest_died_at from engine.dead_job \
         where {MATCHES} group by definition, step, direction order by 4 desc, 1, 2, 3"
    );
    let rows: Vec<KindRow> =
        sqlx::query_as_with(sqlx::AssertSqlSafe(sql), arguments(filter)?).fetch_all(conn).await?;
    rows.into_iter()
        .map(|row| {
            let KindRow { definition, step, direction, count, oldest_died_at, newest_died_at } = row;
            let direction = direction.parse().map_err(|error: String| sqlx::Error::Decode(error.into()))?;
            Ok(DeadJobKindCount { definition, step, direction, count, oldest_died_at, newest_died_at })
        })
        .collect()
}

/// Counts matching dead jobs by their last error, highest first; at most a hundred errors.
pub(crate) async fn by_error(
    conn: &mut PgConnection,
    filter: &DeadJobFilter,
) -> Result<Vec<DeadJobErrorCount>, sqlx::Error> {
    let sql = format!(
        "select error, count(*), min(died_at), max(died_at) from engine.dead_job where {MATCHES} \
         group by error order by 2 desc, 1 limit 100"
    );
    let rows: Vec<(String, i64, DateTime<Utc>, DateTime<Utc>)> =
        sqlx::query_as_with(sqlx::AssertSqlSafe(sql), arguments(filter)?).fetch_all(conn).await?;
    Ok(rows
        .into_iter()
        .map(|(error, count, oldest_died_at, newest_died_at)| DeadJobErrorCount {
            error,
            count,
            oldest_died_at,
            newest_died_at,
        })
        .collect())
}

/// Selects sagas whose deadline passed and that are dead at one of these steps, each given as `graph hash/step`. At a
/// pivot, only those whose pivot did not happen.
pub(crate) async fn overdue(
    pool: &PgPool,
    before_pivot: &[String],
    pivots: &[String],
    limit: u32,
    rows: Rows<'_>,
) -> Result<Vec<Uuid>, sqlx::Error> {
    let rows_condition = rows.and("s.id", 4);
    let sql = format!(
        "select s.id from engine.dead_job d join engine.saga s on s.id = d.saga_id \
         where d.resolution is null and d.direction = 'action' and s.status = 'dead' and s.ended_at is null \
             and s.deadline_at <= now() and (s.graph_hash || '/' || s.step = any($1) \
                 or s.graph_hash || '/' || s.step = any($2) and not s.in_doubt){rows_condition} \
         order by s.deadline_at limit $3"
    );
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
        .bind(before_pivot)
        .bind(pivots)
        .bind(i64::from(limit))
        .bind(rows.ids())
        .fetch_all(pool)
        .await
}
