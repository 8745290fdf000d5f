//! Statements that delete what is over its time: sagas with all that is theirs, business keys and audit records.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use sqlx_macros::FromRow;
use uuid::Uuid;

use crate::{model::retention::Retention, store::dead_jobs::COLUMNS as DEAD_JOB_COLUMNS};

/// How far the deletion of the sagas with one retention is.
#[derive(Debug, FromRow)]
pub(crate) struct Walk {
    /// The id of the last saga that this round has looked at.
    pub(crate) after_id: Uuid,
    pub(crate) round_began_at: DateTime<Utc>,
    /// The time of the database.
    pub(crate) now: DateTime<Utc>,
}

/// Locks how far the deletion is; `None` if another process deletes the sagas with this retention now.
pub(crate) async fn lock_walk(conn: &mut PgConnection, keep_ms: i64) -> Result<Option<Walk>, sqlx::Error> {
    sqlx::query("insert into engine.pruning (keep_ms) values ($1) on conflict do nothing")
        .bind(keep_ms)
        .execute(&mut *conn)
        .await?;
    sqlx::query_as(
        "select after_id, round_began_at, clock_timestamp() as now from engine.pruning where keep_ms = $1 \
         for update skip locked",
    )
    .bind(keep_ms)
    .fetch_optional(conn)
    .await
}

/// Records how far the deletion is, in the transaction of the deletions. `reached` never goes back.
pub(crate) async fn set_walk(
    conn: &mut PgConnection,
    keep_ms: i64,
    after_id: Uuid,
    reached: Option<DateTime<Utc>>,
    begins_round: bool,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update engine.pruning set after_id = $2, reached = greatest(reached, $3), \
             round_began_at = case when $4 then clock_timestamp() else round_began_at end \
         where keep_ms = $1",
    )
    .bind(keep_ms)
    .bind(after_id)
    .bind(reached)
    .bind(begins_round)
    .execute(conn)
    .await
    .map(drop)
}

/// A saga that a walk looks at.
#[derive(Debug, FromRow)]
pub(crate) struct Visited {
    pub(crate) id: Uuid,
    /// Whether it is to be deleted.
    pub(crate) is_over: bool,
}

/// Selects the next sagas after `after` and before `until`, in the order of their ids, and whether each is over its time.
/// Only those that are kept for exactly `keep_ms` can be. Of a tree its root is, once all of it has ended: trees are deleted
/// with their root. (One whose root is gone can only be left from hands.)
pub(crate) async fn visit(
    conn: &mut PgConnection,
    retention: &Retention,
    keep_ms: i64,
    (after, until): (Uuid, Uuid),
    limit: u32,
) -> Result<Vec<Visited>, sqlx::Error> {
    let (mut definitions, mut statuses, mut times) = (Vec::new(), Vec::new(), Vec::new());
    for (definition, end, keep) in retention.exceptions() {
        definitions.push(definition);
        statuses.push(end.status());
        times.push(keep.map_or(FOR_EVER, millis));
    }
    sqlx::query_as(
        "select s.id, s.ended_at is not null and s.ended_at < clock_timestamp() - $1 * interval '1 ms' \
             and coalesce((select x.keep_ms from unnest($4::text[], $5::text[], $6::bigint[]) as x (definition, status, keep_ms) \
                 where x.definition = s.definition and x.status = s.status), $7) = $1 \
             and case when s.root_id is null \
                 then not exists (select from engine.saga c where c.root_id = s.id and c.ended_at is null) \
                 else not exists (select from engine.saga r where r.id = s.root_id) end as is_over \
         from engine.saga s where s.id > $2 and s.id < $3 order by s.id limit $8",
    )
    .bind(keep_ms)
    .bind(after)
    .bind(until)
    .bind(definitions)
    .bind(statuses)
    .bind(times)
    .bind(retention.default_time().map_or(FOR_EVER, millis))
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await
}

/// No time that anything is kept for.
const FOR_EVER: i64 = -1;

pub(crate) fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// A saga that was deleted.
#[derive(Debug, FromRow)]
pub(crate) struct DeletedSaga {
    pub(crate) id: Uuid,
    pub(crate) definition: String,
    business_key: Option<String>,
    created_at: DateTime<Utc>,
    ended_at: DateTime<Utc>,
}

/// Counts the descendants of each of these sagas that has any.
pub(crate) async fn tree_sizes(
    conn: &mut PgConnection,
    roots: &[Uuid],
) -> Result<Vec<(Uuid, i64)>, sqlx::Error> {
    sqlx::query_as("select root_id, count(*) from engine.saga where root_id = any($1) group by root_id")
        .bind(roots)
        .fetch_all(conn)
        .await
}

/// Selects the descendants of these sagas, each with its root.
pub(crate) async fn descendants(
    conn: &mut PgConnection,
    roots: &[Uuid],
) -> Result<Vec<(Uuid, Uuid)>, sqlx::Error> {
    sqlx::query_as("select id, root_id from engine.saga where root_id = any($1)")
        .bind(roots)
        .fetch_all(conn)
        .await
}

/// Selects descendants of a saga, the deepest first, at most `limit`.
pub(crate) async fn deepest(
    conn: &mut PgConnection,
    root: Uuid,
    limit: i64,
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar("select id from engine.saga where root_id = $1 order by depth desc, id limit $2")
        .bind(root)
        .bind(limit)
        .fetch_all(conn)
        .await
}

/// Locks those of these sagas that have ended and that no other transaction has locked.
pub(crate) async fn lock_ended(conn: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "select id from engine.saga where id = any($1) and ended_at is not null order by id for update skip locked",
    )
    .bind(ids)
    .fetch_all(conn)
    .await
}

/// Deletes sagas that have ended. Those that another transaction has locked are left.
pub(crate) async fn delete_sagas(
    conn: &mut PgConnection,
    ids: &[Uuid],
) -> Result<Vec<DeletedSaga>, sqlx::Error> {
    sqlx::query_as(
        "delete from engine.saga where id = any(array( \
             select id from engine.saga where id = any($1) and ended_at is not null order by id for update skip locked)) \
         returning id, definition, business_key, created_at, ended_at",
    )
    .bind(ids)
    .fetch_all(conn)
    .await
}

/// Deletes what belongs to sagas and to nothing else: their histories, messages and progress.
pub(crate) async fn delete_belongings(conn: &mut PgConnection, ids: &[Uuid]) -> Result<(), sqlx::Error> {
    for statement in [
        "delete from engine.history_run where saga_id = any($1)",
        "delete from engine.inbox where saga_id = any($1)",
        "delete from engine.progress where saga_id = any($1)",
    ] {
        sqlx::query(statement).bind(ids).execute(&mut *conn).await?;
    }
    Ok(())
}

/// Moves the dead jobs of sagas to the archive. All are resolved, because their sagas have ended.
pub(crate) async fn archive_dead_jobs(conn: &mut PgConnection, ids: &[Uuid]) -> Result<(), sqlx::Error> {
    let sql = format!(
        "with moved as (delete from engine.dead_job where saga_id = any($1) and resolution is not null \
             returning {DEAD_JOB_COLUMNS}, payload) \
         insert into engine.dead_job_archive ({DEAD_JOB_COLUMNS}, payload, why) \
         select {DEAD_JOB_COLUMNS}, payload, 'resolved' from moved"
    );
    sqlx::query(sqlx::AssertSqlSafe(sql)).bind(ids).execute(conn).await.map(drop)
}

/// Forgets the business keys of deleted sagas, or says until when they are kept, and marks what was deleted.
pub(crate) async fn release_keys(
    conn: &mut PgConnection,
    deleted: &[DeletedSaga],
    keep_keys_ms: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "with deleted as ( \
             select definition, key, id, started_at, ended_at + $6 * interval '1 ms' as kept_until \
             from unnest($1::text[], $2::text[], $3::uuid[], $4::timestamptz[], $5::timestamptz[]) \
                 as d (definition, key, id, started_at, ended_at) \
         ), kept as ( \
             update engine.business_key b set kept_until = d.kept_until from deleted d \
             where b.definition = d.definition and b.key = d.key and b.saga_id = d.id and d.kept_until > clock_timestamp() \
         ), forgotten as ( \
             delete from engine.business_key b using deleted d \
             where b.definition = d.definition and b.key = d.key and b.saga_id = d.id and d.kept_until <= clock_timestamp() \
             returning b.definition, b.created_at \
         ), marks as ( \
             select definition, max(started_at) as started_through, \
                 (select max(created_at) from forgotten f where f.definition = d.definition) as keys_through \
             from deleted d group by definition \
         ) \
         insert into engine.pruned as p (definition, started_through, keys_through) \
         select definition, started_through, keys_through from marks order by definition \
         on conflict (definition) do update set \
             started_through = greatest(p.started_through, excluded.started_through), \
             keys_through = greatest(p.keys_through, excluded.keys_through)",
    )
    .bind(deleted.iter().map(|saga| saga.definition.as_str()).collect::<Vec<_>>())
    .bind(deleted.iter().map(|saga| saga.business_key.as_deref()).collect::<Vec<_>>())
    .bind(deleted.iter().map(|saga| saga.id).collect::<Vec<_>>())
    .bind(deleted.iter().map(|saga| saga.created_at).collect::<Vec<_>>())
    .bind(deleted.iter().map(|saga| saga.ended_at).collect::<Vec<_>>())
    .bind(keep_keys_ms)
    .execute(conn)
    .await
    .map(drop)
}

/// Deletes business keys that have outlived their sagas long enough, at most `limit`, the oldest first; returns how many.
pub(crate) async fn forget_keys(conn: &mut PgConnection, limit: u32) -> Result<u64, sqlx::Error> {
    let forgotten: i64 = sqlx::query_scalar(
        "with forgotten as ( \
             delete from engine.business_key where (definition, key) in ( \
                 select definition, key from engine.business_key where kept_until <= clock_timestamp() \
                 order by kept_until limit $1 for update skip locked) \
             returning definition, created_at \
         ), marked as ( \
             insert into engine.pruned as p (definition, keys_through) \
             select definition, max(created_at) from forgotten group by definition order by definition \
             on conflict (definition) do update set keys_through = greatest(p.keys_through, excluded.keys_through) \
         ) \
         select count(*) from forgotten",
    )
    .bind(i64::from(limit))
    .fetch_one(conn)
    .await?;
    Ok(u64::try_from(forgotten).unwrap_or_default())
}

/// For how many seconds the oldest key that is left has been free; zero if none is.
pub(crate) async fn keys_overdue(conn: &mut PgConnection) -> Result<f64, sqlx::Error> {
    sqlx::query_scalar(
        "select coalesce(extract(epoch from clock_timestamp() - min(kept_until))::float8, 0) from engine.business_key \
         where kept_until <= clock_timestamp()",
    )
    .fetch_one(conn)
    .await
}

/// For how many seconds the oldest saga that no walk has reached yet may have been over its time; zero if there is none.
pub(crate) async fn sagas_overdue(conn: &mut PgConnection, times_ms: &[i64]) -> Result<f64, sqlx::Error> {
    // Where nothing was looked at yet, by the oldest saga; its id says when it was started.
    sqlx::query_scalar(
        "select coalesce(max(greatest(0, extract(epoch from clock_timestamp() - k.keep_ms * interval '1 ms' - \
             coalesce(p.reached, (select created_at from engine.saga order by id limit 1))))), 0)::float8 \
         from unnest($1::bigint[]) as k (keep_ms) left join engine.pruning p on p.keep_ms = k.keep_ms",
    )
    .bind(times_ms)
    .fetch_one(conn)
    .await
}

/// Deletes audit records that are over their time, at most `limit`; returns how many, and none if they are kept for ever.
pub(crate) async fn delete_audits(pool: &PgPool, limit: i32) -> Result<u64, sqlx::Error> {
    let deleted: Option<i64> = sqlx::query_scalar(
        "select engine.prune_audit(clock_timestamp() - keep, $1) from engine.audit_retention where keep is not null",
    )
    .bind(limit)
    .fetch_optional(pool)
    .await?;
    Ok(u64::try_from(deleted.unwrap_or_default()).unwrap_or_default())
}

/// For how many seconds the oldest audit record has been over its time; zero if it is not.
pub(crate) async fn audits_overdue(conn: &mut PgConnection) -> Result<f64, sqlx::Error> {
    sqlx::query_scalar(
        "select coalesce(max(greatest(0, extract(epoch from clock_timestamp() - r.keep - a.at))), 0)::float8 \
         from engine.audit_retention r, lateral (select at from engine.audit order by id limit 1) a where r.keep is not null",
    )
    .fetch_one(conn)
    .await
}

/// Sets how long audits are kept; `None` for ever.
pub(crate) async fn set_audit_retention(pool: &PgPool, keep: Option<Duration>) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update engine.audit_retention set keep = make_interval(secs => $1) \
         where keep is distinct from make_interval(secs => $1)",
    )
    .bind(keep.map(|keep| keep.as_secs_f64()))
    .execute(pool)
    .await
    .map(drop)
}
