//! Writes returns: many rows in one statement.

use std::collections::HashSet;

use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    order_return::ReturnLine,
    status_change::{ChangedReturn, NewReturnRow, ReturnStatusChange},
};

/// Stores returns as requested, with their lines, the first entries of their timelines and the records of the audit log,
/// and returns which are new. A return whose id exists already is left alone.
pub(crate) async fn insert_returns(
    conn: &mut PgConnection,
    returns: &[NewReturnRow<'_>],
) -> Result<HashSet<Uuid>, sqlx::Error> {
    let audited = || returns.iter().map(|one| one.audited.as_ref());
    let new: Vec<Uuid> = sqlx::query_scalar(
        "with new as (
             select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[],
                                  $8::text[], $9::text[])
                 as n (return_id, order_id, workflow_id, reason, actor, audited, key_id, address, trace_id)
         ), stored as (
             insert into shop.order_return (return_id, order_id, workflow_id, reason)
             select return_id, order_id, workflow_id, reason from new
             on conflict (return_id) do nothing
             returning return_id, version, status
         ), timeline as (
             insert into shop.return_timeline (return_id, version, at, status, actor, reason)
             select s.return_id, s.version, clock_timestamp(), s.status, n.actor, n.reason
             from stored s join new n on n.return_id = s.return_id
         ), audit as (
             insert into shop.audit
                 (actor, key_id, address, trace_id, action, subject_kind, subject_id, reason, after)
             select n.audited, n.key_id, n.address::inet, n.trace_id, 'return.request', 'return', s.return_id::text,
                    n.reason,
                    json_build_object('status', s.status, 'order_id', n.order_id, 'workflow_id', n.workflow_id)
             from stored s join new n on n.return_id = s.return_id where n.audited is not null
         )
         select return_id from stored",
    )
    .bind(returns.iter().map(|one| one.return_id).collect::<Vec<_>>())
    .bind(returns.iter().map(|one| one.order_id).collect::<Vec<_>>())
    .bind(returns.iter().map(|one| one.workflow_id).collect::<Vec<_>>())
    .bind(returns.iter().map(|one| one.reason).collect::<Vec<_>>())
    .bind(returns.iter().map(|one| one.actor).collect::<Vec<_>>())
    .bind(audited().map(|by| Some(by?.actor)).collect::<Vec<_>>())
    .bind(audited().map(|by| by?.key_id).collect::<Vec<_>>())
    .bind(audited().map(|by| Some(by?.address?.to_string())).collect::<Vec<_>>())
    .bind(audited().map(|by| by?.trace_id).collect::<Vec<_>>())
    .fetch_all(&mut *conn)
    .await?;
    let new: HashSet<Uuid> = new.into_iter().collect();
    insert_lines(conn, returns, &new).await?;
    Ok(new)
}

async fn insert_lines(
    conn: &mut PgConnection,
    returns: &[NewReturnRow<'_>],
    new: &HashSet<Uuid>,
) -> Result<(), sqlx::Error> {
    let lines = || {
        let stored = returns.iter().filter(|one| new.contains(&one.return_id));
        stored.flat_map(|one| one.lines.iter().map(|line| (one.return_id, line)))
    };
    sqlx::query(
        "insert into shop.return_line (return_id, sku, quantity)
         select l.return_id, l.sku, l.quantity
         from unnest($1::uuid[], $2::text[], $3::bigint[]) as l (return_id, sku, quantity)",
    )
    .bind(lines().map(|(return_id, _)| return_id).collect::<Vec<_>>())
    .bind(lines().map(|(_, line)| line.sku.as_str()).collect::<Vec<_>>())
    .bind(lines().map(|(_, line)| line.quantity).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(())
}

/// Changes the statuses of returns and adds the entries of their timelines. Returns that don't have the expected status
/// are left alone and not returned.
pub(crate) async fn change_statuses(
    conn: &mut PgConnection,
    changes: &[ReturnStatusChange<'_>],
) -> Result<Vec<ChangedReturn>, sqlx::Error> {
    if changes.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query_as(
        "with moved as (
             update shop.order_return r
             set status = m.to_status, status_reason = m.reason, version = r.version + 1,
                 updated_at = clock_timestamp()
             from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[])
                  as m (return_id, from_status, to_status, actor, reason)
             where r.return_id = m.return_id and r.status = m.from_status
             returning r.return_id, r.order_id, r.status, r.status_reason, r.version, r.updated_at, m.actor
         ), timeline as (
             insert into shop.return_timeline (return_id, version, at, status, actor, reason)
             select return_id, version, updated_at, status, actor, status_reason from moved
         )
         select m.return_id, m.order_id, m.status, m.status_reason, m.version, m.updated_at,
                (select coalesce(json_agg(json_build_object('sku', l.sku, 'quantity', l.quantity,
                            'received', l.received, 'restocked', l.restocked) order by l.sku), '[]')
                 from shop.return_line l where l.return_id = m.return_id) as items
         from moved m",
    )
    .bind(changes.iter().map(|one| one.return_id).collect::<Vec<_>>())
    .bind(changes.iter().map(|one| one.from.name()).collect::<Vec<_>>())
    .bind(changes.iter().map(|one| one.to.name()).collect::<Vec<_>>())
    .bind(changes.iter().map(|one| one.actor).collect::<Vec<_>>())
    .bind(changes.iter().map(|one| one.reason).collect::<Vec<_>>())
    .fetch_all(conn)
    .await
}

/// Stores what has arrived of a return.
pub(crate) async fn set_received(
    conn: &mut PgConnection,
    return_id: Uuid,
    lines: &[ReturnLine],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update shop.return_line l set received = n.received, restocked = n.restocked
         from unnest($2::text[], $3::bigint[], $4::bigint[]) as n (sku, received, restocked)
         where l.return_id = $1 and l.sku = n.sku",
    )
    .bind(return_id)
    .bind(lines.iter().map(|line| line.sku.as_str()).collect::<Vec<_>>())
    .bind(lines.iter().map(|line| line.received).collect::<Vec<_>>())
    .bind(lines.iter().map(|line| line.restocked).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(())
}
