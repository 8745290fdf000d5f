//! Lists the audit log.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgPool, types::Json};
use sqlx_macros::FromRow;

/// A recorded change.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The record's number.
    pub id: i64,
    /// When the change was made: the start of its transaction.
    pub at: DateTime<Utc>,
    /// Who made the change.
    pub actor: String,
    /// The API key of the request.
    pub key_id: Option<String>,
    /// The caller's address.
    pub address: Option<IpAddr>,
    /// What was done, such as `stock.set`.
    pub action: String,
    /// The kind of the subject, such as `product`.
    pub subject_kind: String,
    /// The id of the subject.
    pub subject_id: String,
    /// The reason.
    pub reason: Option<String>,
    /// The state before the change.
    pub before: Option<Value>,
    /// The state after the change.
    pub after: Option<Value>,
    /// The trace of the request.
    pub trace_id: Option<String>,
}

/// Which records to list; all given conditions have to hold.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The change was made by this actor, or by it in another's name (`key:web` finds `key:web/anna` too).
    pub actor: Option<String>,
    /// The record has this action.
    pub action: Option<String>,
    /// The subject is of this kind.
    pub subject_kind: Option<String>,
    /// The subject has this id.
    pub subject_id: Option<String>,
    /// The change was made at this time or later.
    pub from: Option<DateTime<Utc>>,
    /// The change was made before this time.
    pub to: Option<DateTime<Utc>>,
}

/// A position in the list, which goes from the newest record to the oldest. The records after it are older, or of the
/// same time with a lower number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The time of the record.
    pub at: DateTime<Utc>,
    /// The number of the record, which need not exist.
    pub id: i64,
}

/// Lists the audit log, newest first.
///
/// # Errors
/// When the database refuses or can't be reached.
pub async fn list(
    pool: &PgPool,
    filter: &Filter,
    after: Option<Position>,
    limit: u32,
) -> Result<Vec<Record>, sqlx::Error> {
    let rows: Vec<Row> = sqlx::query_as(
        "select id, at, actor, key_id, host(address) as address, action, subject_kind, subject_id, reason,
                before, after, trace_id
         from shop.audit
         where ($1::text is null or actor = $1 or starts_with(actor, $1 || '/'))
           and ($2::text is null or action = $2)
           and ($3::text is null or subject_kind = $3)
           and ($4::text is null or subject_id = $4)
           and ($5::timestamptz is null or at >= $5)
           and ($6::timestamptz is null or at < $6)
           and ($7::timestamptz is null or (at, id) < ($7, $8))
         order by at desc, id desc limit $9",
    )
    .bind(filter.actor.as_deref())
    .bind(filter.action.as_deref())
    .bind(filter.subject_kind.as_deref())
    .bind(filter.subject_id.as_deref())
    .bind(filter.from)
    .bind(filter.to)
    .bind(after.map(|after| after.at))
    .bind(after.map(|after| after.id))
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(Row::record).collect()
}

#[derive(FromRow)]
struct Row {
    id: i64,
    at: DateTime<Utc>,
    actor: String,
    key_id: Option<String>,
    address: Option<String>,
    action: String,
    subject_kind: String,
    subject_id: String,
    reason: Option<String>,
    before: Option<Json<Value>>,
    after: Option<Json<Value>>,
    trace_id: Option<String>,
}

impl Row {
    fn record(self) -> Result<Record, sqlx::Error> {
        let address = self.address.map(|address| address.parse()).transpose();
        Ok(Record {
            id: self.id,
            at: self.at,
            actor: self.actor,
            key_id: self.key_id,
            address: address.map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
            action: self.action,
            subject_kind: self.subject_kind,
            subject_id: self.subject_id,
            reason: self.reason,
            before: self.before.map(|before| before.0),
            after: self.after.map(|after| after.0),
            trace_id: self.trace_id,
        })
    }
}
