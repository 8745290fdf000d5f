//! Reads orders.

use chrono::{DateTime, Utc};
use engine::{ListCost, ListError, Page, PageOf, page_rows};
use sqlx::{PgConnection, PgPool, Postgres, QueryBuilder};
use uuid::Uuid;

use super::order::{Order, OrderFilter};
use crate::support::bounded_list::{self, by_status::StatusTable};

/// Reads one order.
///
/// # Errors
/// When the database refuses or can't be reached.
pub async fn get(pool: &PgPool, order_id: Uuid) -> Result<Option<Order>, sqlx::Error> {
    read(&mut *pool.acquire().await?, order_id).await
}

/// Lists orders, newest first: by their ids, or, if the filter has a time, by the time at which they were accepted.
/// Indexes lead to those of a customer and of a time, and `support/bounded_list/by_status.rs` has the ways to those
/// in a status.
///
/// # Errors
/// See [`ListError`]; a list that does not [scan](OrderFilter::may_scan) never times out.
pub async fn list(pool: &PgPool, filter: &OrderFilter, page: Page) -> Result<PageOf<Order>, ListError> {
    if let Some(status) = filter.only_status() {
        return ORDERS.read(pool, status.path(), status.name(), page).await;
    }
    let mut query = select();
    query.push(" where true");
    if let Some(status) = filter.status {
        query.push(" and r.status = ").push_bind(status.name());
    }
    if let Some(customer_id) = filter.customer_id {
        query.push(" and r.customer_id = ").push_bind(customer_id);
    }
    if let Some(after) = filter.created_after {
        query.push(" and r.created_at > ").push_bind(after);
    }
    if let Some(before) = filter.created_before {
        query.push(" and r.created_at < ").push_bind(before);
    }
    if let Some(after) = page.after {
        if filter.is_by_time() {
            query.push(
                " and (r.created_at, r.order_id) < ((select created_at from shop.orders where order_id = ",
            );
            query.push_bind(after).push("), ").push_bind(after).push(")");
        } else {
            query.push(" and r.order_id < ").push_bind(after);
        }
    }
    let order = if filter.is_by_time() { "r.created_at desc, r.order_id desc" } else { "r.order_id desc" };
    query.push(" order by ").push(order).push(" limit ").push_bind(page_rows(page.limit));
    bounded_list::read(pool, ListCost::may_scan_if(filter.may_scan()), query, page.limit).await
}

pub(crate) async fn read(conn: &mut PgConnection, order_id: Uuid) -> Result<Option<Order>, sqlx::Error> {
    let mut query = select();
    query.push(" where r.order_id = ").push_bind(order_id);
    query.build_query_as().fetch_optional(conn).await
}

/// The time, by the clock that all processes share.
pub(crate) async fn now(conn: &mut PgConnection) -> Result<DateTime<Utc>, sqlx::Error> {
    sqlx::query_scalar("select clock_timestamp()").fetch_one(conn).await
}

fn select() -> QueryBuilder<Postgres> {
    QueryBuilder::new(format!("select {} from {} r", ORDERS.columns, ORDERS.table))
}

/// Items and timeline come in the same round trip, as JSON.
const ORDERS: StatusTable = StatusTable {
    columns: "r.order_id, r.customer_id, r.customer_email, r.status, r.status_reason, r.currency, r.total,
            r.payment_due_at, r.workflow_id, r.version, r.created_at, r.updated_at,
            (select coalesce(json_agg(json_build_object('sku', l.sku, 'name', l.name, 'quantity', l.quantity,
                        'unit_price', l.unit_price, 'line_total', l.quantity * l.unit_price) order by l.line_no), '[]')
             from shop.order_line l where l.order_id = r.order_id) as items,
            (select coalesce(json_agg(json_build_object('status', t.status, 'at', t.at, 'actor', t.actor,
                        'reason', t.reason) order by t.version), '[]')
             from shop.order_timeline t where t.order_id = r.order_id) as timeline",
    table: "shop.orders",
    key: "order_id",
    recorded: "shop.order_by_status",
    recorded_through: "(select through from shop.order_recording)",
    moved_by: ("'place-order', 'cancel-order'", "(s.input ->> 'order_id')::uuid"),
};
