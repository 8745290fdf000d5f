//! Statements that read trees of sagas, and what the children of a step gave.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use sqlx_macros::FromRow;
use uuid::Uuid;

use crate::{
    model::{
        child::ChildResult,
        ids::SagaId,
        page::PageOf,
        tree::{SagaTree, TreeStep},
        views::SagaView,
    },
    store::queries::{SAGA_COLUMNS, SagaRow, readable_cause, unreadable},
    support::page::{page_rows, read_page},
};

#[derive(FromRow)]
struct ResultRow {
    position: i32,
    round: i32,
    id: Uuid,
    definition: String,
    status: String,
    result: Option<serde_json::Value>,
    cause: Option<serde_json::Value>,
    error: Option<String>,
    waits_for: Option<String>,
    ended_at: Option<DateTime<Utc>>,
}

impl ResultRow {
    fn view(self) -> Result<ChildResult, sqlx::Error> {
        Ok(ChildResult {
            position: u32::try_from(self.position).unwrap_or_default(),
            round: u32::try_from(self.round).unwrap_or_default(),
            saga_id: SagaId(self.id),
            definition: self.definition,
            status: self.status.parse().map_err(|error: String| unreadable(error))?,
            result: self.result,
            cause: readable_cause(self.cause),
            error: self.error,
            waits_for: self.waits_for,
            ended_at: self.ended_at,
        })
    }
}

/// Selects the children of a step, of each position the last one, in the order of their positions after `after`.
/// Positions are opened in their order, and each is one look at an index for each round, however many there are.
pub(crate) async fn child_results(
    pool: &PgPool,
    (saga_id, step): (Uuid, &str),
    after: i32,
    limit: u32,
) -> Result<PageOf<ChildResult>, sqlx::Error> {
    let rows = sqlx::query(
        "select c.parent_position as position, c.parent_round as round, c.id, c.definition, c.status, c.result, \
             c.cause, \
             c.error, c.waits_for, c.ended_at \
         from (select parent_round as round from engine.saga where parent_id = $1 and parent_step = $2 \
             order by parent_round desc limit 1) last \
         cross join generate_series($3::int + 1, $3::int + $4::int) at (position) \
         cross join lateral ( \
             select c.* from generate_series(last.round, 0, -1) r (round) \
             cross join lateral (select * from engine.saga s where s.parent_id = $1 and s.parent_step = $2 \
                 and s.parent_round = r.round and s.parent_position = at.position offset 0) c \
             order by r.round desc limit 1 \
         ) c order by c.parent_position",
    )
    .bind(saga_id)
    .bind(step)
    .bind(after)
    .bind(i32::try_from(page_rows(limit)).unwrap_or(i32::MAX))
    .fetch(pool);
    read_page(rows, limit).await?.try_map(ResultRow::view)
}

/// Selects the topmost saga of the tree of a saga; `None` if there is no such saga.
pub(crate) async fn root(conn: &mut PgConnection, id: Uuid) -> Result<Option<SagaView>, sqlx::Error> {
    let sql = format!(
        "select {SAGA_COLUMNS} from engine.saga \
         where id = (select coalesce(root_id, id) from engine.saga member where member.id = $1)"
    );
    let row: Option<SagaRow> = sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(id).fetch_optional(conn).await?;
    row.map(SagaRow::view).transpose()
}

#[derive(FromRow)]
struct StepRow {
    depth: i16,
    parent_definition: String,
    step: String,
    definition: String,
    running: i64,
    compensating: i64,
    dead: i64,
    completed: i64,
    compensated: i64,
    given_up: i64,
    wait_for_version: i64,
}

impl From<StepRow> for TreeStep {
    fn from(row: StepRow) -> Self {
        Self {
            depth: u16::try_from(row.depth).unwrap_or_default(),
            parent_definition: row.parent_definition,
            step: row.step,
            definition: row.definition,
            running: row.running,
            compensating: row.compensating,
            dead: row.dead,
            completed: row.completed,
            compensated: row.compensated,
            given_up: row.given_up,
            wait_for_version: row.wait_for_version,
        }
    }
}

/// Counts the descendants of a topmost saga by the steps that started them.
pub(crate) async fn steps(conn: &mut PgConnection, root: Uuid) -> Result<Vec<TreeStep>, sqlx::Error> {
    let rows: Vec<StepRow> = sqlx::query_as(
        "select c.depth, p.definition as parent_definition, c.parent_step as step, c.definition, \
             count(*) filter (where c.status = 'running') as running, \
             count(*) filter (where c.status = 'compensating') as compensating, \
             count(*) filter (where c.status = 'dead' and c.ended_at is null) as dead, \
             count(*) filter (where c.status = 'completed') as completed, \
             count(*) filter (where c.status = 'compensated') as compensated, \
             count(*) filter (where c.status = 'dead' and c.ended_at is not null) as given_up, \
             count(*) filter (where c.waits_for = 'version') as wait_for_version \
         from engine.saga c join engine.saga p on p.id = c.parent_id where c.root_id = $1 \
         group by c.depth, p.definition, c.parent_step, c.definition order by c.depth, min(c.created_at), 2, 3, 4",
    )
    .bind(root)
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// Selects the descendants of a topmost saga that need somebody, those in the greatest need first.
pub(crate) async fn in_need(conn: &mut PgConnection, root: Uuid) -> Result<Vec<SagaView>, sqlx::Error> {
    let sql = format!(
        "select {SAGA_COLUMNS} from engine.saga \
         where root_id = $1 and (status = 'dead' or waits_for = 'version' \
             or status in ('compensating', 'compensated') and cause ->> 'kind' <> 'parent') \
         order by case when status = 'dead' and ended_at is null then 0 when waits_for = 'version' then 1 \
             when status = 'dead' then 3 else 2 end, id limit $2"
    );
    let rows: Vec<SagaRow> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(root)
        .bind(i64::from(SagaTree::MOST_IN_NEED))
        .fetch_all(conn)
        .await?;
    rows.into_iter().map(SagaRow::view).collect()
}
