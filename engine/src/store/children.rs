//! Statements about the children of sagas. A parent reads them after its fence; it never locks them.

use serde_json::value::RawValue;
use sqlx::{PgConnection, PgPool, types::Json};
use sqlx_macros::FromRow;
use uuid::Uuid;

use crate::model::{child::ChildrenOf, pending_cancel::PendingCancel};

/// A step with children at which a saga stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parent<'a> {
    pub(crate) saga_id: Uuid,
    pub(crate) step: &'a str,
    pub(crate) round: i32,
}

/// How far the children of a step are.
#[derive(Clone, Copy, Debug, Default, FromRow)]
pub(crate) struct ChildCounts {
    pub(crate) saga_id: Uuid,
    /// How many positions were opened, in any round.
    pub(crate) opened: i32,
    /// How many have not ended.
    pub(crate) open: i64,
    /// How many have ended without completing since the step was begun, or begun anew.
    pub(crate) failed: i64,
    /// How many positions are to be opened anew: their last child had ended without completing before the step was
    /// begun anew.
    pub(crate) stale: i64,
    /// How many have completed, or have not ended: what is left to undo.
    pub(crate) standing: i64,
}

/// Counts the children of these steps. The caller has locked the parents, in an earlier statement: a child whose end is
/// committed after this one has read finds its parent waiting.
pub(crate) async fn counts(
    conn: &mut PgConnection,
    parents: &[Parent<'_>],
    undo: bool,
) -> Result<Vec<ChildCounts>, sqlx::Error> {
    // What is left to undo is counted only by who undoes.
    let standing = if undo {
        "(select count(*) from engine.saga c where c.parent_id = p.id and c.parent_step = p.step \
             and (c.ended_at is null or c.status = 'completed'))"
    } else {
        "0::bigint"
    };
    let sql = format!(
        "select p.id as saga_id, \
             coalesce(case when p.round = 0 \
                 then (select max(c.parent_position) + 1 from engine.saga c \
                     where c.parent_id = p.id and c.parent_step = p.step and c.parent_round = 0) \
                 else (select max(c.parent_position) + 1 from engine.saga c \
                     where c.parent_id = p.id and c.parent_step = p.step) end, 0) as opened, \
             (select count(*) from engine.saga c \
                 where c.parent_id = p.id and c.parent_step = p.step and c.ended_at is null) as open, \
             (select count(*) from engine.saga c \
                 where c.parent_id = p.id and c.parent_step = p.step and {FAILED}) as failed, \
             case when p.round = 0 then 0 else (select count(*) from engine.saga c \
                 where c.parent_id = p.id and c.parent_step = p.step and {STALE}) end as stale, \
             {standing} as standing \
         from unnest($1::uuid[], $2::text[], $3::int[]) as w (id, step, round) \
         cross join lateral (select w.id, w.step, w.round, s.round_since as since from engine.saga s \
         where s.id = w.id) p"
    );
    sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(parents.iter().map(|parent| parent.saga_id).collect::<Vec<_>>())
        .bind(parents.iter().map(|parent| parent.step).collect::<Vec<_>>())
        .bind(parents.iter().map(|parent| parent.round).collect::<Vec<_>>())
        .fetch_all(conn)
        .await
}

/// Whether the child `c` of the step `p` has ended without completing, and none was opened at its position since.
macro_rules! uncompleted {
    () => {
        "c.ended_at is not null and c.status <> 'completed' \
         and not exists (select from engine.saga n where n.parent_id = c.parent_id and n.parent_step = c.parent_step \
             and n.parent_position = c.parent_position and n.parent_round > c.parent_round)"
    };
}

/// Such a child, from before the step was begun anew.
const STALE: &str = concat!("c.parent_round < p.round and c.ended_at <= p.since and ", uncompleted!());

/// Such a child, of this round or at least after it began.
const FAILED: &str = concat!("(c.parent_round = p.round or c.ended_at > p.since) and ", uncompleted!());

/// The end of a child.
#[derive(Debug, FromRow)]
pub(crate) struct EndedChild {
    pub(crate) id: Uuid,
    pub(crate) definition: String,
    pub(crate) position: i32,
    pub(crate) status: String,
    pub(crate) cause: Option<serde_json::Value>,
    pub(crate) result: Option<Json<Box<RawValue>>>,
}

/// Selects the first child that fails the step.
pub(crate) async fn first_failed(
    conn: &mut PgConnection,
    parent: Parent<'_>,
) -> Result<Option<EndedChild>, sqlx::Error> {
    let sql = format!(
        "select c.id, c.definition, c.parent_position as position, c.status, c.cause, null::jsonb as result \
         from (select id, $2::text as step, $3::int as round, round_since as since from engine.saga where id = $1) p \
         join engine.saga c on c.parent_id = p.id and c.parent_step = p.step and {FAILED} \
         order by c.ended_at, c.parent_position limit 1"
    );
    sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(parent.saga_id)
        .bind(parent.step)
        .bind(parent.round)
        .fetch_optional(conn)
        .await
}

/// Selects how the children of a step ended, of each position the last one, in their order.
pub(crate) async fn ends(
    conn: &mut PgConnection,
    saga_id: Uuid,
    step: &str,
) -> Result<Vec<EndedChild>, sqlx::Error> {
    sqlx::query_as(
        "select distinct on (parent_position) id, definition, parent_position as position, status, cause, result \
         from engine.saga where parent_id = $1 and parent_step = $2 order by parent_position, parent_round desc",
    )
    .bind(saga_id)
    .bind(step)
    .fetch_all(conn)
    .await
}

/// Selects positions whose last child had ended without completing before the step was begun anew.
pub(crate) async fn to_reopen(
    conn: &mut PgConnection,
    parent: Parent<'_>,
    limit: i64,
) -> Result<Vec<i32>, sqlx::Error> {
    let sql = format!(
        "select c.parent_position \
         from (select id, $2::text as step, $3::int as round, round_since as since from engine.saga where id = $1) p \
         join engine.saga c on c.parent_id = p.id and c.parent_step = p.step and {STALE} \
         order by c.parent_position limit $4"
    );
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
        .bind(parent.saga_id)
        .bind(parent.step)
        .bind(parent.round)
        .bind(limit)
        .fetch_all(conn)
        .await
}

/// Selects the inputs of the children at these positions of a step, of each position the last one, in their order.
pub(crate) async fn inputs(
    conn: &mut PgConnection,
    parent: Parent<'_>,
    positions: &[i32],
) -> Result<Vec<(i32, Json<Box<RawValue>>)>, sqlx::Error> {
    // The rounds are named so that each row is found by its key.
    sqlx::query_as(
        "select distinct on (parent_position) parent_position, input from engine.saga \
         where parent_id = $1 and parent_step = $2 and parent_round = any($3) and parent_position = any($4) \
         order by parent_position, parent_round desc",
    )
    .bind(parent.saga_id)
    .bind(parent.step)
    .bind((0..=parent.round).collect::<Vec<_>>())
    .bind(positions)
    .fetch_all(conn)
    .await
}

/// Sends the children of a step that a parent which compensates has not told yet the same cancel, at most `limit`.
/// Those that have ended without completing need none. One that was told in vain is told again.
pub(crate) async fn compensate(
    conn: &mut PgConnection,
    (saga_id, step): (Uuid, &str),
    cancel: &PendingCancel,
    limit: i64,
) -> Result<Told, sqlx::Error> {
    let told: Vec<bool> = sqlx::query_scalar(
        "insert into engine.inbox (saga_id, kind, name, key, payload, sender) \
         select c.id, 'cancel', '', 'parent', $3, $4 from engine.saga c \
         where c.parent_id = $1 and c.parent_step = $2 and (c.ended_at is null or c.status = 'completed') \
             and not exists (select from engine.inbox i \
                 where i.saga_id = c.id and i.kind = 'cancel' and i.name = '' and i.key = 'parent' \
                     and (i.state = 'unread' or c.status = 'compensating' or c.status = 'dead' \
                     and c.direction = 'undo')) \
         order by c.parent_position limit $5 \
         on conflict (saga_id, kind, name, key) do update set state = 'unread', settled_at = null, \
             created_at = clock_timestamp(), payload = excluded.payload where inbox.state <> 'unread' \
         returning xmax = 0",
    )
    .bind(saga_id)
    .bind(step)
    .bind(Json(cancel))
    .bind(&cancel.actor)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    Ok(Told { all: told.len(), first: told.into_iter().filter(|is_first| *is_first).count() })
}

/// How many children were told that they are to be undone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    pub(crate) all: usize,
    /// Those that were told for the first time.
    pub(crate) first: usize,
}

#[derive(FromRow)]
struct StepRow {
    step: String,
    open: i64,
    completed: i64,
    compensated: i64,
    given_up: i64,
    wait_for_version: i64,
    missing_graphs: Vec<String>,
}

impl From<StepRow> for ChildrenOf {
    fn from(row: StepRow) -> Self {
        let StepRow { step, open, completed, compensated, given_up, wait_for_version, missing_graphs } = row;
        Self { step, open, completed, compensated, given_up, wait_for_version, missing_graphs }
    }
}

/// Whether a saga has or had children.
pub(crate) async fn has_any(pool: &PgPool, saga_id: Uuid) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select exists (select from engine.saga where parent_id = $1)")
        .bind(saga_id)
        .fetch_one(pool)
        .await
}

/// Counts the children of a saga by the step that started them, in the order of their first starts.
pub(crate) async fn by_step(conn: &mut PgConnection, saga_id: Uuid) -> Result<Vec<ChildrenOf>, sqlx::Error> {
    let rows: Vec<StepRow> = sqlx::query_as(
        "select parent_step as step, count(*) filter (where ended_at is null) as open, \
             count(*) filter (where ended_at is not null and status = 'completed') as completed, \
             count(*) filter (where ended_at is not null and status = 'compensated') as compensated, \
             count(*) filter (where ended_at is not null and status = 'dead') as given_up, \
             count(*) filter (where waits_for = 'version') as wait_for_version, \
             coalesce((array_agg(distinct graph_hash) filter (where waits_for = 'version'))[1:10], '{}') as \
             missing_graphs \
         from engine.saga where parent_id = $1 group by parent_step order by min(created_at)",
    )
    .bind(saga_id)
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// How many children of a saga have not ended.
#[derive(Clone, Copy, Debug, FromRow)]
pub(crate) struct OpenChildren {
    pub(crate) open: i64,
    /// Those of them that are past their own pivot, so that a cancel does not stop them.
    pub(crate) past_pivot: i64,
}

/// Counts the children of a saga that have not ended.
pub(crate) async fn count_open(conn: &mut PgConnection, saga_id: Uuid) -> Result<OpenChildren, sqlx::Error> {
    sqlx::query_as(
        "select coalesce(sum(o.sagas), 0)::bigint as open, \
             coalesce(sum(o.sagas) filter (where o.direction = 'action' and exists ( \
                 select from engine.graph g cross join lateral jsonb_array_elements(g.graph -> 'steps') node \
                 where g.hash = o.graph_hash and node ->> 'name' = o.step and node ->> 'placement' = 'after_pivot' \
             )), 0)::bigint as past_pivot \
         from (select graph_hash, step, direction, count(*) as sagas from engine.saga \
             where parent_id = $1 and ended_at is null group by graph_hash, step, direction) o",
    )
    .bind(saga_id)
    .fetch_one(conn)
    .await
}

/// Sends a cancel to all children of a saga that have not ended.
pub(crate) async fn cancel_open(
    conn: &mut PgConnection,
    saga_id: Uuid,
    cancel: &PendingCancel,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into engine.inbox (saga_id, kind, name, key, payload, sender) \
         select id, 'cancel', '', 'discarded', $2, $3 from engine.saga where parent_id = $1 and ended_at is null \
         on conflict do nothing",
    )
    .bind(saga_id)
    .bind(Json(cancel))
    .bind(&cancel.actor)
    .execute(conn)
    .await
    .map(drop)
}

/// A child whose entry step refused it.
#[derive(Debug)]
pub(crate) struct RefusedChild {
    pub(crate) id: Uuid,
    /// Its entry step.
    pub(crate) step: String,
    /// The cause as JSON.
    pub(crate) cause: String,
    pub(crate) error: String,
}

/// Ends children whose entry step refused them: they stay, compensated, with one entry of history.
pub(crate) async fn refuse(conn: &mut PgConnection, refused: &[RefusedChild]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update engine.saga s set status = 'compensated', direction = 'undo', step = r.step, attempt = 0, \
             history_seq = 1, \
             lease_owner = null, claimed_at = null, lease_until = null, due_at = null, waits_for = null, \
             cause = r.cause::jsonb, error = r.error, ended_at = clock_timestamp() \
         from unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) as r (id, step, cause, error) where s.id = r.id",
    )
    .bind(refused.iter().map(|child| child.id).collect::<Vec<_>>())
    .bind(refused.iter().map(|child| child.step.as_str()).collect::<Vec<_>>())
    .bind(refused.iter().map(|child| child.cause.as_str()).collect::<Vec<_>>())
    .bind(refused.iter().map(|child| child.error.as_str()).collect::<Vec<_>>())
    .execute(conn)
    .await
    .map(drop)
}

/// Whether a saga `s` that waits for its children can go on. What is left to undo keeps one that compensates waiting.
pub(crate) const CHILDREN_LET_GO_ON: &str = "case when s.direction = 'undo' \
     then not exists (select from engine.saga c where c.parent_id = s.id and c.parent_step = s.step \
         and (c.ended_at is null or c.status = 'completed')) \
     else (select count(*) from (select from engine.saga c where c.parent_id = s.id and c.parent_step = s.step \
             and c.ended_at is null limit s.wakes_at_open + 1) open) <= s.wakes_at_open \
         or s.wakes_at_failure and exists (select from engine.saga c where c.parent_id = s.id \
         and c.parent_step = s.step \
             and (c.parent_round = coalesce(s.round, 0) or c.ended_at > s.round_since) \
             and c.ended_at is not null and c.status <> 'completed' \
             and not exists (select from engine.saga n where n.parent_id = s.id and n.parent_step = s.step \
                 and n.parent_position = c.parent_position and n.parent_round > c.parent_round)) \
     end";

/// Selects sagas that wait for their children and could go on.
pub(crate) async fn forgotten(conn: &mut PgConnection, limit: i64) -> Result<Vec<Uuid>, sqlx::Error> {
    let sql = format!(
        "select s.id from engine.saga s \
         where s.waits_for = 'children' and coalesce(s.due_at > clock_timestamp(), true) \
             and {CHILDREN_LET_GO_ON} limit $1"
    );
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(limit).fetch_all(conn).await
}

/// Makes sagas due that undo their children, and of which a child has completed without having read that it is to be
/// undone: it was told in vain, and is told again. Returns their ids and queues.
pub(crate) async fn wake_to_tell_again(
    conn: &mut PgConnection,
    limit: i64,
) -> Result<Vec<(Uuid, String)>, sqlx::Error> {
    sqlx::query_as(
        "update engine.saga set due_at = clock_timestamp() where id in ( \
             select s.id from engine.saga s \
             where s.waits_for = 'children' and s.direction = 'undo' and coalesce(s.due_at > clock_timestamp(), true) \
                 and exists ( \
                     select from engine.saga c where c.parent_id = s.id and c.parent_step = s.step \
                     and c.status = 'completed' \
                         and not exists (select from engine.inbox i where i.saga_id = c.id and i.kind = 'cancel' \
                             and i.key = 'parent' and i.state = 'unread')) \
             order by s.id limit $1 for update of s skip locked) \
         returning id, queue",
    )
    .bind(limit)
    .fetch_all(conn)
    .await
}
