//! Statements that write and read audit records.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgConnection, PgPool};
use sqlx_macros::FromRow;
use uuid::Uuid;

use crate::{
    model::{
        audit::{AuditFilter, AuditRecord, AuditSubjectKind, CANCEL, Operator},
        ids::{DeadJobId, SagaId},
        page::PageOf,
    },
    support::{
        bounded_list::{ListCost, ListError, read_list},
        page::{page_rows, read_page},
    },
};

/// Who requested which action, and why.
pub(crate) struct AuditReason<'a> {
    pub(crate) by: &'a Operator<'a>,
    pub(crate) action: &'static str,
    pub(crate) reason: &'a str,
}

/// An audit record to be written.
pub(crate) struct AuditEntry<'a> {
    pub(crate) request: AuditReason<'a>,
    pub(crate) saga_id: SagaId,
    pub(crate) dead_job_id: Option<Uuid>,
    pub(crate) before: Value,
    pub(crate) after: Value,
}

/// Writes an audit record, in the transaction of the action.
pub(crate) async fn record(conn: &mut PgConnection, audit: &AuditEntry<'_>) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into engine.audit (actor, action, saga_id, dead_job_id, reason, context, before, after) \
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(audit.request.by.actor)
    .bind(audit.request.action)
    .bind(audit.saga_id.0)
    .bind(audit.dead_job_id)
    .bind(audit.request.reason)
    .bind(&audit.request.by.context)
    .bind(&audit.before)
    .bind(&audit.after)
    .execute(conn)
    .await
    .map(drop)
}

#[derive(FromRow)]
struct AuditRow {
    id: i64,
    at: DateTime<Utc>,
    actor: String,
    action: String,
    saga_id: Uuid,
    dead_job_id: Option<Uuid>,
    reason: String,
    context: Option<Value>,
    before: Option<Value>,
    after: Option<Value>,
}

impl AuditRow {
    fn record(self) -> AuditRecord {
        AuditRecord {
            id: self.id,
            at: self.at,
            actor: self.actor,
            action: self.action,
            saga_id: SagaId(self.saga_id),
            dead_job_id: self.dead_job_id.map(DeadJobId),
            reason: self.reason,
            context: self.context,
            before: self.before,
            after: self.after,
        }
    }
}

/// Selects audit records, newest first. `after` is the position after which the list starts: a time, and an id among
/// the records of that time.
pub(crate) async fn audits(
    pool: &PgPool,
    filter: &AuditFilter,
    after: Option<(DateTime<Utc>, i64)>,
    limit: u32,
) -> Result<PageOf<AuditRecord>, ListError> {
    let query = sqlx::query(
        "select id, at, actor, action, saga_id, dead_job_id, reason, context, before, after from engine.audit \
         where ($1::text is null or actor = $1 or starts_with(actor, $1 || '/')) \
         and ($2::text is null or action = $2) and ($3::uuid is null or saga_id = $3 or dead_job_id = $3) \
         and ($4::bool is null or (dead_job_id is not null and action <> $10) = $4) and ($5::timestamptz is null or at >= $5) \
         and ($6::timestamptz is null or at < $6) and ($7::timestamptz is null or (at, id) < ($7, $8)) \
         order by at desc, id desc limit $9",
    )
    .bind(filter.actor.as_deref())
    .bind(filter.action.as_deref())
    .bind(filter.subject)
    .bind(filter.subject_kind.map(|kind| kind == AuditSubjectKind::DeadJob))
    .bind(filter.from)
    .bind(filter.to)
    .bind(after.map(|(at, _)| at))
    .bind(after.map(|(_, id)| id))
    .bind(page_rows(limit))
    .bind(CANCEL);
    let cost = ListCost::may_scan_if(filter.may_scan());
    let rows: PageOf<AuditRow> =
        read_list(pool, cost, async |conn| read_page(query.fetch(conn), limit).await).await?;
    rows.try_map(|row| Ok(row.record()))
}
