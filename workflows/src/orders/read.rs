//! Reads orders.

use engine::{ListCost, ListError, Page, PageOf, page_rows};
use sqlx::{PgConnection, PgPool, Postgres, QueryBuilder};
use uuid::Uuid;

use super::order::{Order, OrderFilter};
use crate::support::bounded_list;

/// Reads one order.
///
/// # Errors
/// When the database refuses or can't be reached.
pub async fn get(pool: &PgPool, order_id: Uuid) -> Result<Option<Order>, sqlx::Error> {
    read(&mut *pool.acquire().await?, order_id).await
}

/// Lists orders, newest first: by their ids, or, if the filter has a time, by the time at which they were accepted, of
/// which there is an index.
///
/// A rare status scans the primary key from its end, and may time out: an index on the status would slow down every
/// change of every order.
///
/// # Errors
/// See [`ListError`]; a list that does not [scan](OrderFilter::may_scan) never times out.
pub async fn list(pool: &PgPool, filter: &OrderFilter, page: Page) -> Result<PageOf<Order>, ListError> {
    let mut query = QueryBuilder::<Postgres>::new(SELECT);
    query.push(" where true");
    if let Some(status) = filter.status {
        query.push(" and o.status = ").push_bind(status.name());
    }
    if let Some(customer_id) = filter.customer_id {
        query.push(" and o.customer_id = ").push_bind(customer_id);
    }
    if let Some(after) = filter.created_after {
        query.push(" and o.created_at > ").push_bind(after);
    }
    if let Some(before) = filter.created_before {
        query.push(" and o.created_at < ").push_bind(before);
    }
    if let Some(after) = page.after {
        if filter.is_by_time() {
            query.push(
                " and (o.created_at, o.order_id) < ((select created_at from shop.orders where order_id = ",
            );
            query.push_bind(after).push("), ").push_bind(after).push(")");
        } else {
            query.push(" and o.order_id < ").push_bind(after);
        }
    }
    let order = if filter.is_by_time() { "o.created_at desc, o.order_id desc" } else { "o.order_id desc" };
    query.push(" order by ").push(order).push(" limit ").push_bind(page_rows(page.limit));
    bounded_list::read(pool, ListCost::may_scan_if(filter.may_scan()), query, page.limit).await
}

pub(crate) async fn read(conn: &mut PgConnection, order_id: Uuid) -> Result<Option<Order>, sqlx::Error> {
    let mut query = QueryBuilder::<Postgres>::new(SELECT);
    query.push(" where o.order_id = ").push_bind(order_id);
    query.build_query_as().fetch_optional(conn).await
}

/// Items and timeline come in the same round trip, as JSON.
const SELECT: &str = "select o.order_id, o.customer_id, o.customer_email, o.status, o.status_reason, o.currency, o.total,
            o.workflow_id, o.version, o.created_at, o.updated_at,
            (select coalesce(json_agg(json_build_object('sku', l.sku, 'name', l.name, 'quantity', l.quantity,
                        'unit_price', l.unit_price, 'line_total', l.quantity * l.unit_price) order by l.line_no), '[]')
             from shop.order_line l where l.order_id = o.order_id) as items,
            (select coalesce(json_agg(json_build_object('status', t.status, 'at', t.at, 'actor', t.actor,
                        'reason', t.reason) order by t.version), '[]')
             from shop.order_timeline t where t.order_id = o.order_id) as timeline
     from shop.orders o";
