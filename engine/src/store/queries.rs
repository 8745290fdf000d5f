//! Statements that only read.

use chrono::{DateTime, Utc};
use sqlx::{PgPool, types::Json};
use sqlx_macros::FromRow;
use uuid::Uuid;

use crate::model::{
    arms::Arms,
    cause::Cause,
    child::ChildOf,
    ids::{SagaId, WorkerId},
    page::PageOf,
    progress::ReportedProgress,
    views::{FinalStatus, HistoryEntry, HistoryOutcome, SagaPayload, SagaView},
};
use crate::support::page::{page_rows, read_page};

/// Decodes a cause; `None` if it can't be decoded, as when a newer binary stored a kind that this one does not know.
/// That must neither hide the saga nor keep operators from acting on it.
pub(crate) fn readable_cause(cause: Option<serde_json::Value>) -> Option<Cause> {
    serde_json::from_value(cause?).ok()
}

pub(super) fn unreadable(what: impl Into<String>) -> sqlx::Error {
    sqlx::Error::Decode(what.into().into())
}

pub(crate) async fn now(pool: &PgPool) -> Result<DateTime<Utc>, sqlx::Error> {
    sqlx::query_scalar("select clock_timestamp()").fetch_one(pool).await
}

#[derive(FromRow)]
struct EndingRow {
    id: Uuid,
    status: String,
    cause: Option<serde_json::Value>,
    result: Option<serde_json::Value>,
}

impl EndingRow {
    fn ending(self) -> Result<(SagaId, FinalStatus), sqlx::Error> {
        let status = self.status.parse().map_err(|error: String| unreadable(error))?;
        Ok((SagaId(self.id), FinalStatus { status, cause: readable_cause(self.cause), result: self.result }))
    }
}

/// Selects the status of a saga.
pub(crate) async fn status_of(pool: &PgPool, id: Uuid) -> Result<Option<FinalStatus>, sqlx::Error> {
    let row: Option<EndingRow> =
        sqlx::query_as("select id, status, cause, result from engine.saga where id = $1")
            .bind(id)
            .fetch_optional(pool)
            .await?;
    Ok(row.map(EndingRow::ending).transpose()?.map(|(_, ending)| ending))
}

/// A saga that has ended or is dead.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) saga_id: SagaId,
    pub(crate) status: FinalStatus,
    /// Whether it ended more than half a second ago, so that it must have been told by now if it was told at all.
    pub(crate) is_late: bool,
}

/// Of these sagas, selects those that have ended or are dead.
pub(crate) async fn endings(conn: &mut sqlx::PgConnection, ids: &[Uuid]) -> Result<Vec<Ending>, sqlx::Error> {
    #[derive(FromRow)]
    struct Row {
        #[sqlx(flatten)]
        ending: EndingRow,
        late: bool,
    }
    let rows: Vec<Row> = sqlx::query_as(
        "select id, status, cause, result, \
             coalesce(ended_at < clock_timestamp() - interval '500 ms', false) as late \
         from engine.saga where id = any($1) and status not in ('running', 'compensating')",
    )
    .bind(ids)
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let (saga_id, status) = row.ending.ending()?;
            Ok(Ending { saga_id, status, is_late: row.late })
        })
        .collect()
}

#[derive(FromRow)]
pub(super) struct SagaRow {
    id: Uuid,
    definition: String,
    graph_hash: String,
    queue: String,
    status: String,
    step: String,
    direction: String,
    business_key: Option<String>,
    attempt: i32,
    due_at: Option<DateTime<Utc>>,
    deadline_at: Option<DateTime<Utc>>,
    lease_owner: Option<Uuid>,
    epoch: i64,
    error: Option<String>,
    cause: Option<serde_json::Value>,
    cancel_requested: bool,
    waits_for: Option<String>,
    wait_until: Option<DateTime<Utc>>,
    signal_name: Option<String>,
    arms: Option<String>,
    progress: Option<Json<ReportedProgress>>,
    #[sqlx(flatten)]
    child_of: ChildOfRow,
    created_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
}

#[derive(FromRow)]
struct ChildOfRow {
    parent_id: Option<Uuid>,
    root_id: Option<Uuid>,
    parent_step: Option<String>,
    parent_round: Option<i32>,
    parent_position: Option<i32>,
    depth: i16,
}

impl ChildOfRow {
    fn place(self) -> Option<ChildOf> {
        Some(ChildOf {
            parent_id: SagaId(self.parent_id?),
            root_id: SagaId(self.root_id?),
            step: self.parent_step?,
            round: u32::try_from(self.parent_round?).unwrap_or_default(),
            position: u32::try_from(self.parent_position?).unwrap_or_default(),
            depth: u16::try_from(self.depth).unwrap_or_default(),
        })
    }
}

impl SagaRow {
    pub(super) fn view(self) -> Result<SagaView, sqlx::Error> {
        Ok(SagaView {
            saga_id: SagaId(self.id),
            definition: self.definition,
            graph_hash: self.graph_hash,
            queue: self.queue,
            status: self.status.parse().map_err(|error: String| unreadable(error))?,
            step: self.step,
            direction: self.direction.parse().map_err(|error: String| unreadable(error))?,
            business_key: self.business_key,
            attempt: u32::try_from(self.attempt).unwrap_or_default(),
            due_at: self.due_at,
            deadline_at: self.deadline_at,
            lease_owner: self.lease_owner.map(WorkerId),
            epoch: self.epoch,
            error: self.error,
            cause: readable_cause(self.cause),
            cancel_requested: self.cancel_requested,
            waits_for: self.waits_for,
            wait_until: self.wait_until,
            signal: self.signal_name,
            // What a newer binary may have stored must not hide the saga.
            arms: Arms::read(self.arms.as_deref()).unwrap_or_default(),
            progress: self.progress.map(|progress| progress.0),
            child_of: self.child_of.place(),
            created_at: self.created_at,
            ended_at: self.ended_at,
        })
    }
}

pub(super) const SAGA_COLUMNS: &str = "id, definition, graph_hash, queue, status, step, direction, business_key, \
     attempt, \
     coalesce(lease_until, due_at) as due_at, deadline_at, lease_owner, epoch, error, cause, \
     (cancel is not null or exists (select from engine.inbox i \
         where i.saga_id = saga.id and i.state = 'unread' and i.kind = 'cancel')) as cancel_requested, \
     waits_for, wait_until, signal_name, arms, parent_id, root_id, parent_step, parent_round, parent_position, depth, \
     created_at, ended_at, \
     (select jsonb_build_object('done', p.done, 'total', p.total, 'note', p.note, 'attempt', p.attempt, 'at', \
     p.updated_at) \
         from engine.progress p where p.saga_id = saga.id and p.step = saga.step and p.direction = saga.direction \
             and saga.ended_at is null) as progress";

pub(crate) async fn saga(pool: &PgPool, id: Uuid) -> Result<Option<SagaView>, sqlx::Error> {
    let sql = format!("select {SAGA_COLUMNS} from engine.saga where id = $1");
    let row: Option<SagaRow> = sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(id).fetch_optional(pool).await?;
    row.map(SagaRow::view).transpose()
}

#[derive(FromRow)]
struct SagaPayloadRow {
    #[sqlx(flatten)]
    saga: SagaRow,
    input: serde_json::Value,
    result: Option<serde_json::Value>,
}

/// Selects a saga with its input and its result.
pub(crate) async fn saga_with_payload(pool: &PgPool, id: Uuid) -> Result<Option<SagaPayload>, sqlx::Error> {
    let sql = format!("select {SAGA_COLUMNS}, input, result from engine.saga where id = $1");
    let row: Option<SagaPayloadRow> =
        sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(id).fetch_optional(pool).await?;
    row.map(|row| Ok(SagaPayload { saga: row.saga.view()?, input: row.input, result: row.result }))
        .transpose()
}

/// Selects sagas with ids from `from` up to `to`, `to` excluded, and after `after`, in their order.
pub(crate) async fn sagas_between(
    pool: &PgPool,
    from: Uuid,
    to: Uuid,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<SagaView>, sqlx::Error> {
    let sql = format!(
        "select {SAGA_COLUMNS} from engine.saga \
         where id >= $1 and id < $2 and ($3::uuid is null or id > $3) order by id limit $4"
    );
    let rows: Vec<SagaRow> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(after.unwrap_or(from))
        .bind(to)
        .bind(after)
        .bind(limit)
        .fetch_all(pool)
        .await?;
    rows.into_iter().map(SagaRow::view).collect()
}

/// Selects the id of the saga that follows after `offset` newer ones.
pub(crate) async fn newest_id(pool: &PgPool, offset: i64) -> Result<Option<Uuid>, sqlx::Error> {
    sqlx::query_scalar("select id from engine.saga order by id desc offset $1 limit 1")
        .bind(offset)
        .fetch_optional(pool)
        .await
}

/// Selects the id of the saga that follows after the first `offset` ones with ids from `from` on.
pub(crate) async fn id_from(pool: &PgPool, from: Uuid, offset: i64) -> Result<Option<Uuid>, sqlx::Error> {
    sqlx::query_scalar("select id from engine.saga where id >= $1 order by id offset $2 limit 1")
        .bind(from)
        .bind(offset)
        .fetch_optional(pool)
        .await
}

/// Selects the sagas with these ids that exist.
pub(crate) async fn sagas_with_ids(pool: &PgPool, ids: &[Uuid]) -> Result<Vec<SagaView>, sqlx::Error> {
    let sql = format!("select {SAGA_COLUMNS} from engine.saga where id = any($1)");
    let rows: Vec<SagaRow> = sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(ids).fetch_all(pool).await?;
    rows.into_iter().map(SagaRow::view).collect()
}

/// Selects the ids of the sagas that are unfinished, or dead and not given up. Partial indexes find them all.
pub(crate) async fn unfinished_ids(pool: &PgPool) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "select id from engine.saga where due_at is not null \
         union select id from engine.saga where lease_until is not null \
         union select id from engine.saga where waits_for is not null \
         union select id from engine.saga where status = 'dead' and ended_at is null",
    )
    .fetch_all(pool)
    .await
}

#[derive(FromRow)]
struct HistoryRow {
    seq: i32,
    step: String,
    direction: String,
    outcome: String,
    attempt: i32,
    started_at: DateTime<Utc>,
    duration_ms: i64,
    output: Option<serde_json::Value>,
    error: Option<Json<Vec<String>>>,
    details: Option<serde_json::Value>,
    worker: Option<Uuid>,
    epoch: i64,
}

impl HistoryRow {
    fn entry(self) -> Result<HistoryEntry, sqlx::Error> {
        Ok(HistoryEntry {
            seq: self.seq,
            step: self.step,
            direction: self.direction.parse().map_err(|error: String| unreadable(error))?,
            outcome: HistoryOutcome::read(&self.outcome),
            attempt: u32::try_from(self.attempt).unwrap_or_default(),
            started_at: self.started_at,
            duration_ms: self.duration_ms,
            output: self.output,
            error: self.error.map(|error| error.0).unwrap_or_default(),
            details: self.details,
            worker: self.worker.map(WorkerId),
            epoch: self.epoch,
        })
    }
}

/// Selects entries of a saga's history in order: those after the entry `$2`, at most `$3`. A call in progress comes
/// last, as `started`.
///
/// The runs of the page are found first, so that a page of a long history does not read all of it.
const HISTORY: &str = "select seq, step, direction, outcome, attempt, started_at, duration_ms, output, error, \
     details, worker, epoch \
         from (select min(seq) as first_run, max(seq) as last_run from ( \
             select seq from engine.history_run where saga_id = $1 and seq >= coalesce(( \
                 select seq from engine.history_run where saga_id = $1 and seq <= $2::bigint + 1 \
                 order by seq desc limit 1), 0) \
             order by seq limit $3) runs) page \
         join engine.history on run between first_run and last_run where saga_id = $1 and seq > $2 \
         union all \
         select history_seq + 1, step, direction, 'started', attempt, coalesce(claimed_at, now()), \
             coalesce(extract(epoch from clock_timestamp() - claimed_at) * 1000, 0)::bigint, null, null, null, \
             lease_owner, epoch \
         from engine.saga where id = $1 and lease_owner is not null and history_seq + 1 > $2 \
         order by seq limit $3";

/// Selects a saga's whole history.
pub(crate) async fn history(pool: &PgPool, id: Uuid) -> Result<Vec<HistoryEntry>, sqlx::Error> {
    entries(sqlx::query_as(HISTORY).bind(id).bind(0).bind(i64::MAX).fetch_all(pool).await?)
}

/// Selects a page of a saga's history, after the entry `after`.
pub(crate) async fn history_page(
    pool: &PgPool,
    id: Uuid,
    after: i32,
    limit: u32,
) -> Result<PageOf<HistoryEntry>, sqlx::Error> {
    let rows = sqlx::query(HISTORY).bind(id).bind(after).bind(page_rows(limit)).fetch(pool);
    read_page(rows, limit).await?.try_map(HistoryRow::entry)
}

#[derive(FromRow)]
struct SagaHistoryRow {
    saga_id: Uuid,
    #[sqlx(flatten)]
    row: HistoryRow,
}

/// Selects the stored entries of several sagas' histories without their payloads, each saga's in order.
pub(crate) async fn histories(
    pool: &PgPool,
    ids: &[Uuid],
    choices: &[&str],
) -> Result<Vec<(Uuid, HistoryEntry)>, sqlx::Error> {
    let rows: Vec<SagaHistoryRow> = sqlx::query_as(
        "select saga_id, seq, step, direction, outcome, attempt, started_at, duration_ms, \
             case when step = any($2) then output end as output, error, null::jsonb as details, worker, epoch \
         from engine.history where saga_id = any($1) order by saga_id, seq",
    )
    .bind(ids)
    .bind(choices)
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(|SagaHistoryRow { saga_id, row }| Ok((saga_id, row.entry()?))).collect()
}

/// Selects the newest entries about the action of one step, newest first. A call in progress comes first, as `started`.
pub(crate) async fn latest_attempts(
    pool: &PgPool,
    id: Uuid,
    step: &str,
    limit: u32,
) -> Result<PageOf<HistoryEntry>, sqlx::Error> {
    let rows = sqlx::query(
        "select seq, step, direction, outcome, attempt, started_at, duration_ms, output, error, details, worker, epoch \
         from (select min(seq) as first_run from ( \
             select seq from engine.history_run \
             where saga_id = $1 and direction = 'action' and (step = $2 or $2 = any(next_steps)) \
             order by seq desc limit $3) runs) latest_runs \
         join engine.history on run >= first_run where saga_id = $1 and step = $2 and direction = 'action' \
         union all \
         select history_seq + 1, step, direction, 'started', attempt, coalesce(claimed_at, now()), \
             coalesce(extract(epoch from clock_timestamp() - claimed_at) * 1000, 0)::bigint, null, null, null, \
             lease_owner, \
             epoch \
         from engine.saga where id = $1 and step = $2 and direction = 'action' and lease_owner is not null \
         order by seq desc limit $3",
    )
    .bind(id)
    .bind(step)
    .bind(page_rows(limit))
    .fetch(pool);
    read_page(rows, limit).await?.try_map(HistoryRow::entry)
}

fn entries(rows: Vec<HistoryRow>) -> Result<Vec<HistoryEntry>, sqlx::Error> {
    rows.into_iter().map(HistoryRow::entry).collect()
}
