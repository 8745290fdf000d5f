//! Writes orders: many rows in one statement.

use std::collections::{HashMap, HashSet};

use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    status::OrderStatus,
    status_change::{ChangedOrder, NewOrderRow, OrderStatusChange},
};

/// Stores orders as pending, with the first entries of their timelines and the records of the audit log, and returns
/// which are new. An order whose id exists already is left alone. All in one statement: a single order's latency is made
/// of round trips.
pub(crate) async fn insert_orders(
    conn: &mut PgConnection,
    orders: &[NewOrderRow<'_>],
) -> Result<HashSet<Uuid>, sqlx::Error> {
    let order_ids: Vec<Uuid> = orders.iter().map(|order| order.order_id).collect();
    let customers: Vec<Uuid> = orders.iter().map(|order| order.customer_id).collect();
    let workflows: Vec<Uuid> = orders.iter().map(|order| order.workflow_id).collect();
    let totals: Vec<i64> = orders.iter().map(|order| order.priced.total).collect();
    let currencies: Vec<&str> = orders.iter().map(|order| order.priced.currency.as_str()).collect();
    let emails: Vec<&str> = orders.iter().map(|order| order.customer_email).collect();
    let actors: Vec<&str> = orders.iter().map(|order| order.actor).collect();
    let audited = || orders.iter().map(|order| order.audited.as_ref());
    let placed: Vec<Uuid> = sqlx::query_scalar(
        "with new as (
             select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[], $5::text[], $6::text[], $7::text[],
                                  $8::text[], $9::text[], $10::text[], $11::text[], $12::timestamptz[])
                 as n (order_id, customer_id, workflow_id, total, currency, customer_email, actor,
                       audited, key_id, address, trace_id, payment_due_at)
         ), placed as (
             insert into shop.orders
                 (order_id, customer_id, workflow_id, total, currency, customer_email, payment_due_at)
             select order_id, customer_id, workflow_id, total, currency, customer_email, payment_due_at from new
             on conflict (order_id) do nothing
             returning order_id, version, status
         ), timeline as (
             -- The time of the step, not of the start of its transaction: the history of the saga tells the same.
             insert into shop.order_timeline (order_id, version, at, status, actor)
             select p.order_id, p.version, clock_timestamp(), p.status, n.actor
             from placed p join new n on n.order_id = p.order_id
         ), audit as (
             insert into shop.audit (actor, key_id, address, trace_id, action, subject_kind, subject_id, after)
             select n.audited, n.key_id, n.address::inet, n.trace_id, 'order.place', 'order', p.order_id::text,
                    json_build_object('status', p.status, 'currency', n.currency, 'total', n.total,
                                      'workflow_id', n.workflow_id)
             from placed p join new n on n.order_id = p.order_id where n.audited is not null
         )
         select order_id from placed",
    )
    .bind(order_ids)
    .bind(customers)
    .bind(workflows)
    .bind(totals)
    .bind(currencies)
    .bind(emails)
    .bind(actors)
    .bind(audited().map(|by| Some(by?.actor)).collect::<Vec<_>>())
    .bind(audited().map(|by| by?.key_id).collect::<Vec<_>>())
    .bind(audited().map(|by| Some(by?.address?.to_string())).collect::<Vec<_>>())
    .bind(audited().map(|by| by?.trace_id).collect::<Vec<_>>())
    .bind(orders.iter().map(|order| order.payment_due_at).collect::<Vec<_>>())
    .fetch_all(conn)
    .await?;
    Ok(placed.into_iter().collect())
}

/// Stores the items of new orders.
pub(crate) async fn insert_lines(
    conn: &mut PgConnection,
    orders: &[NewOrderRow<'_>],
) -> Result<(), sqlx::Error> {
    let lines = || {
        orders.iter().flat_map(|order| {
            (1_i16..).zip(&order.priced.lines).map(|(line_no, line)| (order.order_id, line_no, line))
        })
    };
    sqlx::query(
        "insert into shop.order_line (order_id, line_no, sku, name, quantity, unit_price)
         select l.order_id, l.line_no, l.sku, l.name, l.quantity, l.unit_price
         from unnest($1::uuid[], $2::smallint[], $3::text[], $4::text[], $5::bigint[], $6::bigint[])
              as l (order_id, line_no, sku, name, quantity, unit_price)",
    )
    .bind(lines().map(|(order_id, _, _)| order_id).collect::<Vec<_>>())
    .bind(lines().map(|(_, line_no, _)| line_no).collect::<Vec<_>>())
    .bind(lines().map(|(_, _, line)| line.sku.as_str()).collect::<Vec<_>>())
    .bind(lines().map(|(_, _, line)| line.name.as_str()).collect::<Vec<_>>())
    .bind(lines().map(|(_, _, line)| line.quantity).collect::<Vec<_>>())
    .bind(lines().map(|(_, _, line)| line.unit_price).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(())
}

/// Changes the statuses of orders and adds the entries of their timelines. Orders that don't have the expected status
/// are left alone and not returned.
pub(crate) async fn change_statuses(
    conn: &mut PgConnection,
    moves: &[OrderStatusChange<'_>],
) -> Result<Vec<ChangedOrder>, sqlx::Error> {
    if moves.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query_as(
        "with moved as (
             update shop.orders o
             set status = m.to_status, status_reason = m.reason, version = o.version + 1,
                 updated_at = clock_timestamp()
             from unnest((select $1::uuid[]), $2::text[], $3::text[], $4::text[], $5::text[])
                  as m (order_id, from_status, to_status, actor, reason)
             where o.order_id = m.order_id and o.status = m.from_status
             returning o.order_id, o.customer_id, o.customer_email, o.status, o.status_reason, o.version, o.currency,
                       o.total, o.updated_at, m.actor
         ), timeline as (
             insert into shop.order_timeline (order_id, version, at, status, actor, reason)
             select order_id, version, updated_at, status, actor, status_reason from moved
         )
         select order_id, customer_id, customer_email, status, status_reason, version, currency, total, updated_at
         from moved",
    )
    .bind(moves.iter().map(|one| one.order_id).collect::<Vec<_>>())
    .bind(moves.iter().map(|one| one.from.name()).collect::<Vec<_>>())
    .bind(moves.iter().map(|one| one.to.name()).collect::<Vec<_>>())
    .bind(moves.iter().map(|one| one.actor).collect::<Vec<_>>())
    .bind(moves.iter().map(|one| one.reason).collect::<Vec<_>>())
    .fetch_all(conn)
    .await
}

/// Reads and locks these orders, in the order of their ids: the status and version of each. Unknown ids are left out.
pub(crate) async fn lock_orders(
    conn: &mut PgConnection,
    order_ids: &[Uuid],
) -> Result<HashMap<Uuid, (OrderStatus, i64)>, sqlx::Error> {
    let rows: Vec<(Uuid, String, i64)> = sqlx::query_as(
        "select order_id, status, version from shop.orders
         where order_id = any((select $1::uuid[])::uuid[]) order by order_id for no key update",
    )
    .bind(order_ids)
    .fetch_all(conn)
    .await?;
    let read = |(order_id, status, version): (Uuid, String, i64)| {
        let status = status.parse().map_err(|error: String| sqlx::Error::Decode(error.into()))?;
        Ok((order_id, (status, version)))
    };
    rows.into_iter().map(read).collect()
}
