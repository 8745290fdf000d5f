//! Lets one process at a time delete, and deletes what belongs to no module of `support`.

use std::time::Duration;

use engine::Pruned;
use sqlx::PgConnection;
use sqlx_macros::FromRow;

/// Takes the lock on deleting these rows until the end of the transaction; `false` if another transaction has it.
pub(super) async fn try_lock(conn: &mut PgConnection, rows: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select pg_try_advisory_xact_lock(hashtextextended('prune ' || $1, 0))")
        .bind(rows)
        .fetch_one(conn)
        .await
}

#[derive(FromRow)]
struct Visited {
    looked_at: i64,
    deleted: i64,
}

impl Visited {
    fn pruned(&self, limit: u32) -> Pruned {
        let deleted = u64::try_from(self.deleted).unwrap_or_default();
        Pruned { deleted, more: self.looked_at >= i64::from(limit) }
    }
}

/// Empties the texts of the next notifications that were accepted longer than `keep` ago. How the delivery went does not
/// matter: what is still to be sent is the input of its saga.
pub(super) async fn delete_texts(
    conn: &mut PgConnection,
    keep: Duration,
    limit: u32,
) -> Result<Pruned, sqlx::Error> {
    let visited: Visited = sqlx::query_as(
        "with page as (
             select notification_id from shop.notification
             where notification_id > (select after_id from shop.pruning where rows = 'notification_texts')
               and notification_id < shop.first_id_at(now() - make_interval(secs => $1))
             order by notification_id limit $2
         ), emptied as (
             update shop.notification n set text = '', html = null, text_deleted_at = now()
             from page p
             where n.notification_id = p.notification_id and n.text_deleted_at is null
               and n.created_at < now() - make_interval(secs => $1)
             returning n.notification_id
         ), moved as (
             update shop.pruning set after_id = last.notification_id
             from (select notification_id from page order by notification_id desc limit 1) last
             where rows = 'notification_texts'
         )
         select (select count(*) from page) as looked_at, (select count(*) from emptied) as deleted",
    )
    .bind(keep.as_secs_f64())
    .bind(i64::from(limit))
    .fetch_one(conn)
    .await?;
    Ok(visited.pruned(limit))
}

/// Deletes, of the next reservations, those that are no longer held and whose order was over longer than `keep` ago. An hour
/// after the last it begins again with the first. An order has fewer reservations than a batch, so a batch that begins
/// with the last order of the one before comes further.
pub(super) async fn delete_reservations(
    conn: &mut PgConnection,
    keep: Duration,
    limit: u32,
) -> Result<Pruned, sqlx::Error> {
    let visited: Visited = sqlx::query_as(
        "with walk as (
             select after_id from shop.pruning where rows = 'reservations'
               and (after_id <> '00000000-0000-0000-0000-000000000000' or reached is null
                    or reached < now() - make_interval(secs => $1) - interval '1 hour')
         ), page as (
             select order_id, sku from shop.reservation
             where order_id >= (select after_id from walk)
               and order_id < shop.first_id_at(now() - make_interval(secs => $1))
             order by order_id, sku limit $2
         ), deleted as (
             delete from shop.reservation r using page p join shop.orders o on o.order_id = p.order_id
             where r.order_id = p.order_id and r.sku = p.sku and r.state <> 'held'
               and o.status in ('delivered', 'returned', 'rejected', 'cancelled')
               and o.updated_at < now() - make_interval(secs => $1)
             returning o.updated_at
         ), moved as (
             update shop.pruning set
                 after_id = case when looked_at < $2 then '00000000-0000-0000-0000-000000000000' else last end,
                 reached = case when looked_at < $2 then greatest(reached, now() - make_interval(secs => $1))
                                else reached end,
                 through = greatest(through, (select max(updated_at) from deleted))
             from (select (select count(*) from page) as looked_at,
                          (select order_id from page order by order_id desc limit 1) as last) seen
             where rows = 'reservations' and exists (select from walk)
         )
         select (select count(*) from page) as looked_at, (select count(*) from deleted) as deleted",
    )
    .bind(keep.as_secs_f64())
    .bind(i64::from(limit))
    .fetch_one(conn)
    .await?;
    Ok(visited.pruned(limit))
}

/// Deletes the oldest audit records that are over the time that the database holds.
pub(super) async fn delete_audits(conn: &mut PgConnection, limit: u32) -> Result<Pruned, sqlx::Error> {
    let deleted: Option<i64> = sqlx::query_scalar(
        "select shop.prune_audit(cutoff, $1) from shop.audit_cutoff() as cutoff where cutoff is not null",
    )
    .bind(i32::try_from(limit).unwrap_or(i32::MAX))
    .fetch_optional(conn)
    .await?;
    let deleted = u64::try_from(deleted.unwrap_or_default()).unwrap_or_default();
    Ok(Pruned { deleted, more: deleted >= u64::from(limit) })
}
