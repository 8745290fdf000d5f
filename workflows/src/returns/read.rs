//! Reads returns.

use std::collections::HashMap;

use engine::{ListCost, ListError, Page, PageOf, page_rows};
use sqlx::{PgConnection, PgPool, Postgres, QueryBuilder};
use sqlx_macros::FromRow;
use uuid::Uuid;

use super::{
    order_return::{OrderReturn, ReturnFilter, ReturnLine},
    status::ReturnStatus,
    units::OrderUnits,
};
use crate::support::bounded_list;

/// Reads one return.
///
/// # Errors
/// When the database refuses or can't be reached.
pub async fn get(pool: &PgPool, return_id: Uuid) -> Result<Option<OrderReturn>, sqlx::Error> {
    read(&mut *pool.acquire().await?, return_id).await
}

/// Lists returns, newest first. Indexes lead to those of an order and to those in a status.
///
/// # Errors
/// When the database refuses or can't be reached.
pub async fn list(pool: &PgPool, filter: ReturnFilter, page: Page) -> Result<PageOf<OrderReturn>, ListError> {
    let mut query = select();
    query.push(" where true");
    if let Some(status) = filter.status {
        query.push(" and r.status = ").push_bind(status.name());
    }
    if let Some(order_id) = filter.order_id {
        query.push(" and r.order_id = ").push_bind(order_id);
    }
    if let Some(after) = page.after {
        query.push(" and r.return_id < ").push_bind(after);
    }
    query.push(" order by r.return_id desc limit ").push_bind(page_rows(page.limit));
    bounded_list::read(pool, ListCost::Indexed, query, page.limit).await
}

pub(crate) async fn read(
    conn: &mut PgConnection,
    return_id: Uuid,
) -> Result<Option<OrderReturn>, sqlx::Error> {
    let mut query = select();
    query.push(" where r.return_id = ").push_bind(return_id);
    query.build_query_as().fetch_optional(conn).await
}

/// Items and timeline come in the same round trip, as JSON.
fn select() -> QueryBuilder<Postgres> {
    QueryBuilder::new(
        "select r.return_id, r.order_id, r.status, r.status_reason, r.reason, r.workflow_id, r.version, r.created_at,
                r.updated_at,
                (select coalesce(json_agg(json_build_object('sku', l.sku, 'quantity', l.quantity,
                            'received', l.received, 'restocked', l.restocked) order by l.sku), '[]')
                 from shop.return_line l where l.return_id = r.return_id) as items,
                (select coalesce(json_agg(json_build_object('status', t.status, 'at', t.at, 'actor', t.actor,
                            'reason', t.reason) order by t.version), '[]')
                 from shop.return_timeline t where t.return_id = r.return_id) as timeline
         from shop.order_return r",
    )
}

/// A return that is locked until the transaction ends.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct LockedReturn {
    pub(crate) return_id: Uuid,
    pub(crate) order_id: Uuid,
    pub(crate) workflow_id: Uuid,
    pub(crate) status: ReturnStatus,
    pub(crate) status_reason: Option<String>,
    pub(crate) version: i64,
    /// Where mails about the order go.
    pub(crate) customer_email: String,
    #[sqlx(json)]
    pub(crate) items: Vec<ReturnLine>,
}

/// Reads and locks these returns, in the order of their ids; unknown ids are left out. Who changes their orders, too, has
/// locked those before.
pub(crate) async fn lock_returns(
    conn: &mut PgConnection,
    return_ids: &[Uuid],
) -> Result<HashMap<Uuid, LockedReturn>, sqlx::Error> {
    // Lines are written only by who holds this lock, and read after it.
    sqlx::query(
        "select from shop.order_return where return_id = any($1) order by return_id for no key update",
    )
    .bind(return_ids)
    .execute(&mut *conn)
    .await?;
    let rows: Vec<LockedReturn> = sqlx::query_as(
        "select r.return_id, r.order_id, r.workflow_id, r.status, r.status_reason, r.version, o.customer_email,
                (select coalesce(json_agg(json_build_object('sku', l.sku, 'quantity', l.quantity,
                            'received', l.received, 'restocked', l.restocked) order by l.sku), '[]')
                 from shop.return_line l where l.return_id = r.return_id) as items
         from shop.order_return r join shop.orders o on o.order_id = r.order_id
         where r.return_id = any($1)",
    )
    .bind(return_ids)
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.return_id, row)).collect())
}

#[derive(FromRow)]
struct UnitsRow {
    order_id: Uuid,
    sku: String,
    ordered: i64,
    returned: i64,
}

/// Reads how many units of these orders were ordered, and how many are in returns that are open or completed. The caller
/// has locked the orders.
pub(crate) async fn units_of_orders(
    conn: &mut PgConnection,
    order_ids: &[Uuid],
) -> Result<HashMap<Uuid, OrderUnits>, sqlx::Error> {
    units(conn, order_ids, &["requested", "approved", "received", "completed"]).await
}

/// As [`units_of_orders`], with only those that are back.
pub(crate) async fn completed_units(
    conn: &mut PgConnection,
    order_ids: &[Uuid],
) -> Result<HashMap<Uuid, OrderUnits>, sqlx::Error> {
    units(conn, order_ids, &["completed"]).await
}

async fn units(
    conn: &mut PgConnection,
    order_ids: &[Uuid],
    statuses: &[&str],
) -> Result<HashMap<Uuid, OrderUnits>, sqlx::Error> {
    let rows: Vec<UnitsRow> = sqlx::query_as(
        "with returned as (
             select r.order_id, l.sku, sum(coalesce(l.received, l.quantity))::bigint as units
             from shop.order_return r join shop.return_line l on l.return_id = r.return_id
             where r.order_id = any($1) and r.status = any($2)
             group by r.order_id, l.sku
         )
         select o.order_id, o.sku, sum(o.quantity)::bigint as ordered, coalesce(max(r.units), 0) as returned
         from shop.order_line o left join returned r on r.order_id = o.order_id and r.sku = o.sku
         where o.order_id = any($1)
         group by o.order_id, o.sku",
    )
    .bind(order_ids)
    .bind(statuses)
    .fetch_all(conn)
    .await?;
    let mut units: HashMap<Uuid, OrderUnits> = HashMap::new();
    for UnitsRow { order_id, sku, ordered, returned } in rows {
        units.entry(order_id).or_default().add(sku, ordered, returned);
    }
    Ok(units)
}
