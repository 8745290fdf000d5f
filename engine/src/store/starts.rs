//! Statements that start sagas.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use sqlx_macros::FromRow;
use uuid::Uuid;

use crate::model::{begins::Begins, child::ChildOf, ids::WorkerId, stored_value::StoredValue};

/// A saga to be inserted.
#[derive(Debug)]
pub(crate) struct NewSagaRow<'a> {
    pub(crate) id: Uuid,
    pub(crate) definition: &'a str,
    pub(crate) graph_hash: &'a str,
    pub(crate) queue: &'a str,
    pub(crate) status: &'static str,
    pub(crate) step: &'a str,
    /// The number of history entries that the saga starts with: one if it has an entry step, which runs in
    /// the transaction that starts the saga.
    pub(crate) seq: i32,
    /// Whether the worker claims the saga in the same commit.
    pub(crate) held: bool,
    pub(crate) deadline_ms: Option<i64>,
    pub(crate) business_key: Option<&'a str>,
    pub(crate) trace: Option<&'a str>,
    pub(crate) input: &'a str,
    pub(crate) child_of: Option<&'a ChildOf>,
}

/// Takes the business keys of the sagas `s` that have one.
const KEYED: &str = ", keyed as ( \
         insert into engine.business_key (definition, key, saga_id) \
         select definition, business_key, id from s where business_key is not null order by place \
         on conflict do nothing returning saga_id \
     )";
const KEY_IS_NEW: &str = "business_key is null or id in (select saga_id from keyed)";

/// Inserts sagas, in the order given, and a batch for those of each definition. Returns the ids of those whose id and
/// business key were new, each with the PID of this connection's server process: the caller terminates that process if a
/// statement still runs after the time-out.
pub(crate) async fn insert(
    conn: &mut PgConnection,
    sagas: &[NewSagaRow<'_>],
    worker: WorkerId,
    lease_ms: i64,
) -> Result<Vec<(Uuid, i32)>, sqlx::Error> {
    let has_keys = sagas.iter().any(|saga| saga.business_key.is_some());
    let (keyed, are_new) = if has_keys { (KEYED, KEY_IS_NEW) } else { ("", "true") };
    let are_children = sagas.iter().any(|saga| saga.child_of.is_some());
    let (placed, place_parameters) = if are_children { (CHILD_COLUMNS, CHILD_PARAMETERS) } else { ("", "") };
    let sql = format!(
        "with s as ( \
             select * from unnest((select $3::uuid[]), $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::int[], \
                 $10::bool[], $11::bigint[], $12::text[], $13::text[], $14::text[]{place_parameters}) with ordinality \
                 as s (id, definition, graph_hash, queue, status, step, seq, held, deadline_ms, business_key, trace, \
                     input{placed}, place) \
         ) {keyed}, started as ( \
         insert into engine.saga (id, definition, graph_hash, queue, status, step, direction, attempt, history_seq, \
             epoch, lease_owner, claimed_at, lease_until, due_at, deadline_at, business_key, trace, input, ended_at, \
             in_start_batch{placed}) \
         select id, definition, graph_hash, queue, status, step, 'action', held::int, seq, \
             held::int, case when held then $1::uuid end, case when held then clock_timestamp() end, \
             case when held then clock_timestamp() + $2 * interval '1 ms' end, \
             case when not held and status = 'running' then clock_timestamp() end, \
             clock_timestamp() + deadline_ms * interval '1 ms', business_key, trace, input::jsonb, \
             case when status <> 'running' then clock_timestamp() end, true{placed} \
         from s where {are_new} \
         on conflict do nothing \
         returning id, definition \
         ), listed as ( \
             insert into engine.start_batch (definition, saga_ids) \
             select definition, array_agg(id) from started group by definition \
         ) \
         select id, pg_backend_pid() from started"
    );
    let query = sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(worker)
        .bind(lease_ms)
        .bind(sagas.iter().map(|saga| saga.id).collect::<Vec<_>>())
        .bind(sagas.iter().map(|saga| saga.definition).collect::<Vec<_>>())
        .bind(sagas.iter().map(|saga| saga.graph_hash).collect::<Vec<_>>())
        .bind(sagas.iter().map(|saga| saga.queue).collect::<Vec<_>>())
        .bind(sagas.iter().map(|saga| saga.status).collect::<Vec<_>>())
        .bind(sagas.iter().map(|saga| saga.step).collect::<Vec<_>>())
        .bind(sagas.iter().map(|saga| saga.seq).collect::<Vec<_>>())
        .bind(sagas.iter().map(|saga| saga.held).collect::<Vec<_>>())
        .bind(sagas.iter().map(|saga| saga.deadline_ms).collect::<Vec<_>>())
        .bind(sagas.iter().map(|saga| saga.business_key).collect::<Vec<_>>())
        .bind(sagas.iter().map(|saga| saga.trace).collect::<Vec<_>>())
        .bind(sagas.iter().map(|saga| saga.input).collect::<Vec<_>>());
    if !are_children {
        return query.fetch_all(conn).await;
    }
    let children = || sagas.iter().map(|saga| saga.child_of);
    let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    query
        .bind(children().map(|child| Some(child?.parent_id.0)).collect::<Vec<_>>())
        .bind(children().map(|child| Some(child?.root_id.0)).collect::<Vec<_>>())
        .bind(children().map(|child| Some(child?.step.as_str())).collect::<Vec<_>>())
        .bind(children().map(|child| Some(number(child?.round))).collect::<Vec<_>>())
        .bind(children().map(|child| Some(number(child?.position))).collect::<Vec<_>>())
        .bind(children().map(|child| child.map_or(0, |child| i32::from(child.depth))).collect::<Vec<_>>())
        .fetch_all(conn)
        .await
}

/// The columns of the sagas `s` that are children, and their parameters.
const CHILD_COLUMNS: &str = ", parent_id, root_id, parent_step, parent_round, parent_position, depth";
const CHILD_PARAMETERS: &str = ", $15::uuid[], $16::uuid[], $17::text[], $18::int[], $19::int[], $20::int[]";

/// What already has the id or the business key of a start.
#[derive(Debug, FromRow)]
pub(crate) struct ExistingSaga {
    /// The saga; `None` if its start was rolled back, or it was deleted with its key, since it was in the way.
    pub(crate) saga_id: Option<Uuid>,
    /// Until when its key starts no other saga, if it was deleted itself.
    pub(crate) key_kept_until: Option<DateTime<Utc>>,
    /// Whether that time is over, and nobody has deleted the key yet.
    pub(crate) is_key_free: bool,
}

impl ExistingSaga {
    /// Whether nothing is in the way of the start any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.saga_id.is_none() || self.is_key_free
    }
}

/// Selects what already has the id or the business key of each start.
pub(crate) async fn existing(
    conn: &mut PgConnection,
    sagas: &[NewSagaRow<'_>],
) -> Result<Vec<ExistingSaga>, sqlx::Error> {
    sqlx::query_as(
        "select coalesce(b.saga_id, (select s.id from engine.saga s where s.id = k.id)) as saga_id, \
             b.kept_until as key_kept_until, coalesce(b.kept_until <= clock_timestamp(), false) as is_key_free \
         from unnest($1::uuid[], $2::text[], $3::text[]) with ordinality as k (id, definition, business_key, place) \
         left join engine.business_key b on b.definition = k.definition and b.key = k.business_key \
         order by place",
    )
    .bind(sagas.iter().map(|saga| saga.id).collect::<Vec<_>>())
    .bind(sagas.iter().map(|saga| saga.definition).collect::<Vec<_>>())
    .bind(sagas.iter().map(|saga| saga.business_key).collect::<Vec<_>>())
    .fetch_all(conn)
    .await
}

/// Deletes the business keys of these starts that may be used again, in their order, and marks that they are forgotten.
pub(crate) async fn forget_free_keys(
    conn: &mut PgConnection,
    sagas: &[NewSagaRow<'_>],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "with free as ( \
             select b.definition, b.key from engine.business_key b \
             join unnest($1::text[], $2::text[]) as k (definition, key) on b.definition = k.definition and b.key = k.key \
             where b.kept_until <= clock_timestamp() order by b.definition, b.key for update of b \
         ), forgotten as ( \
             delete from engine.business_key b using free f where b.definition = f.definition and b.key = f.key \
             returning b.definition, b.created_at \
         ) \
         insert into engine.pruned as p (definition, keys_through) \
         select definition, max(created_at) from forgotten group by definition order by definition \
         on conflict (definition) do update set keys_through = greatest(p.keys_through, excluded.keys_through)",
    )
    .bind(sagas.iter().map(|saga| saga.definition).collect::<Vec<_>>())
    .bind(sagas.iter().map(|saga| saga.business_key).collect::<Vec<_>>())
    .execute(conn)
    .await
    .map(drop)
}

/// Lets sagas that this transaction inserted, and that nobody holds, sleep until their time comes. Their deadline counts
/// from then on. (`wait_until` is for waits that are steps.) Returns the ids of those that sleep.
pub(crate) async fn delay(
    conn: &mut PgConnection,
    sagas: &[(Uuid, Begins)],
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "update engine.saga s set due_at = d.begins, waits_for = 'sleep', \
             waits_since = clock_timestamp(), deadline_at = s.deadline_at + (d.begins - clock_timestamp()) \
         from (select id, coalesce(at, clock_timestamp() + after_ms * interval '1 ms') as begins \
               from unnest($1::uuid[], $2::timestamptz[], $3::bigint[]) as b (id, at, after_ms)) d \
         where s.id = d.id and s.status = 'running' and d.begins > clock_timestamp() returning s.id",
    )
    .bind(sagas.iter().map(|(id, _)| *id).collect::<Vec<_>>())
    .bind(sagas.iter().map(|(_, begins)| begins.time()).collect::<Vec<_>>())
    .bind(sagas.iter().map(|(_, begins)| begins.after_ms()).collect::<Vec<_>>())
    .fetch_all(conn)
    .await
}

/// The result of a saga that its entry step completed, or why there is none although its definition gives one.
pub(crate) type EntryResult = Result<StoredValue, String>;

/// Writes the results of sagas that this transaction inserted and completed.
pub(crate) async fn write_results(
    conn: &mut PgConnection,
    results: &[(Uuid, EntryResult)],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update engine.saga s set result = r.result::jsonb, error = r.error \
         from unnest($1::uuid[], $2::text[], $3::text[]) as r (id, result, error) where s.id = r.id",
    )
    .bind(results.iter().map(|(id, _)| *id).collect::<Vec<_>>())
    .bind(
        results
            .iter()
            .map(|(_, result)| result.as_ref().ok().map(|given| given.stored().get()))
            .collect::<Vec<_>>(),
    )
    .bind(results.iter().map(|(_, result)| result.as_ref().err()).collect::<Vec<_>>())
    .execute(conn)
    .await
    .map(drop)
}

/// Deletes sagas that this transaction inserted and whose start is refused, because their entry step failed. Their
/// business keys can be used again.
pub(crate) async fn delete(conn: &mut PgConnection, ids: &[Uuid]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "with refused as (delete from engine.saga where id = any($1) returning id, definition, business_key) \
         delete from engine.business_key b using refused r \
         where b.definition = r.definition and b.key = r.business_key and b.saga_id = r.id",
    )
    .bind(ids)
    .execute(conn)
    .await
    .map(drop)
}
