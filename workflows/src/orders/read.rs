//! Orders as they are shown.

use chrono::{DateTime, Utc};
use engine::Page;
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgPool, Postgres, QueryBuilder};
use sqlx_macros::FromRow;
use uuid::Uuid;

use super::status::OrderStatus;
use crate::bounded_list::{self, ListError};

/// An order with its lines and its life.
#[derive(Clone, Debug, Serialize, FromRow)]
pub struct Order {
    /// Its id.
    pub order_id: Uuid,
    /// Who ordered.
    pub customer_id: Uuid,
    /// Where mails about it go.
    pub customer_email: String,
    /// Where it is in its life.
    pub status: OrderStatus,
    /// Why it is there, where there is a why.
    pub status_reason: Option<String>,
    /// ISO 4217.
    pub currency: String,
    /// The sum of its lines, in minor units of the currency.
    pub total: i64,
    /// Its lines, as they were ordered.
    #[sqlx(json)]
    pub items: Vec<OrderLine>,
    /// Every status it had, oldest first.
    #[sqlx(json)]
    pub timeline: Vec<TimelineEntry>,
    /// The saga that places it.
    pub workflow_id: Uuid,
    /// Grows with every change.
    pub version: i64,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// When it changed last.
    pub updated_at: DateTime<Utc>,
}

/// One line of an order, with name and price as they were then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderLine {
    /// What was ordered.
    pub sku: String,
    /// What it was called.
    pub name: String,
    /// How many.
    pub quantity: i64,
    /// What one cost, in minor units.
    pub unit_price: i64,
    /// What all of them cost, in minor units.
    pub line_total: i64,
}

/// One status that an order had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineEntry {
    /// The status.
    pub status: OrderStatus,
    /// Since when.
    pub at: DateTime<Utc>,
    /// Who, or which saga, brought it there.
    pub actor: String,
    /// Why, where there is a why.
    pub reason: Option<String>,
}

/// Which orders to list; every field narrows.
#[derive(Clone, Debug, Default)]
pub struct OrderFilter {
    /// In this status.
    pub status: Option<OrderStatus>,
    /// Of this customer.
    pub customer_id: Option<Uuid>,
    /// Accepted after this.
    pub created_after: Option<DateTime<Utc>>,
    /// Accepted before this.
    pub created_before: Option<DateTime<Utc>>,
}

impl OrderFilter {
    /// Whether many orders may have to be looked at before a page is full.
    pub fn may_scan(&self) -> bool {
        self.status.is_some() || self.created_after.is_some() || self.created_before.is_some()
    }
}

/// Reads one order.
///
/// # Errors
/// When the database refuses or is away.
pub async fn get(pool: &PgPool, order_id: Uuid) -> Result<Option<Order>, sqlx::Error> {
    read(&mut *pool.acquire().await?, order_id).await
}

/// Lists orders, newest first by their ids.
///
/// A time has an index. A rare status without one walks the primary key from its end, and may be given up: an index would
/// cost every change of every order.
///
/// # Errors
/// See [`ListError`]; a list that does not [scan](OrderFilter::may_scan) is never too long.
pub async fn list(pool: &PgPool, filter: &OrderFilter, page: Page) -> Result<Vec<Order>, ListError> {
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
        query.push(" and o.order_id < ").push_bind(after);
    }
    query.push(" order by o.order_id desc limit ").push_bind(i64::from(page.limit));
    if filter.may_scan() {
        return bounded_list::read(pool, query).await;
    }
    Ok(query.build_query_as().fetch_all(pool).await?)
}

pub(super) async fn read(conn: &mut PgConnection, order_id: Uuid) -> Result<Option<Order>, sqlx::Error> {
    let mut query = QueryBuilder::<Postgres>::new(SELECT);
    query.push(" where o.order_id = ").push_bind(order_id);
    query.build_query_as().fetch_optional(conn).await
}

/// Lines and timeline come in the same round trip, as JSON.
const SELECT: &str = "select o.order_id, o.customer_id, o.customer_email, o.status, o.status_reason, o.currency, o.total,
            o.workflow_id, o.version, o.created_at, o.updated_at,
            (select coalesce(json_agg(json_build_object('sku', l.sku, 'name', l.name, 'quantity', l.quantity,
                        'unit_price', l.unit_price, 'line_total', l.quantity * l.unit_price) order by l.line_no), '[]')
             from shop.order_line l where l.order_id = o.order_id) as items,
            (select coalesce(json_agg(json_build_object('status', t.status, 'at', t.at, 'actor', t.actor,
                        'reason', t.reason) order by t.version), '[]')
             from shop.order_timeline t where t.order_id = o.order_id) as timeline
     from shop.orders o";
