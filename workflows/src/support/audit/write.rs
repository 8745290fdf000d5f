//! Records changes in the audit log.

use sqlx::{PgConnection, types::Json};

use super::entry::{AuditActor, AuditEntry};

/// Records a change, in its transaction.
///
/// # Errors
/// When the database refuses or can't be reached.
pub async fn record(
    conn: &mut PgConnection,
    by: &AuditActor<'_>,
    changes: &[AuditEntry<'_>],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into shop.audit
             (actor, key_id, address, trace_id, action, subject_kind, subject_id, reason, before, after)
         select $1, $2, $3::inet, $4, c.action, c.subject_kind, c.subject_id, c.reason, c.before, c.after
         from unnest($5::text[], $6::text[], $7::text[], $8::text[], $9::json[], $10::json[])
              with ordinality as c (action, subject_kind, subject_id, reason, before, after, place)
         order by c.place",
    )
    .bind(by.actor)
    .bind(by.key_id)
    .bind(by.address.map(|address| address.to_string()))
    .bind(by.trace_id)
    .bind(changes.iter().map(|change| change.action).collect::<Vec<_>>())
    .bind(changes.iter().map(|change| change.subject_kind).collect::<Vec<_>>())
    .bind(changes.iter().map(|change| change.subject_id).collect::<Vec<_>>())
    .bind(changes.iter().map(|change| change.reason).collect::<Vec<_>>())
    .bind(changes.iter().map(|change| change.before.as_ref().map(Json)).collect::<Vec<_>>())
    .bind(changes.iter().map(|change| change.after.as_ref().map(Json)).collect::<Vec<_>>())
    .execute(conn)
    .await
    .map(drop)
}
