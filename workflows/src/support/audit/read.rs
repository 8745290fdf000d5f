//! Lists the audit.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgPool, types::Json};
use sqlx_macros::FromRow;

/// One recorded change.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its number.
    pub id: i64,
    /// When it was made: the beginning of its transaction.
    pub at: DateTime<Utc>,
    /// Who made it.
    pub actor: String,
    /// The API key that they used.
    pub key_id: Option<String>,
    /// Where they called from.
    pub address: Option<IpAddr>,
    /// What was done, such as `stock.set`.
    pub action: String,
    /// What kind of thing it was done to, such as `product`.
    pub subject_kind: String,
    /// Which one.
    pub subject_id: String,
    /// Why.
    pub reason: Option<String>,
    /// How it was.
    pub before: Option<Value>,
    /// How it was afterwards.
    pub after: Option<Value>,
    /// The request's trace.
    pub trace_id: Option<String>,
}

/// Which records to list; every field narrows.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// By this actor, whoever they said they acted for (`key:web` finds `key:web/anna` too).
    pub actor: Option<String>,
    /// Of this action.
    pub action: Option<String>,
    /// About this kind of thing.
    pub subject_kind: Option<String>,
    /// About this thing.
    pub subject_id: Option<String>,
    /// Made at this time or later.
    pub from: Option<DateTime<Utc>>,
    /// Made before this time.
    pub to: Option<DateTime<Utc>>,
}

/// A place in the list, which goes from the newest to the oldest: records after it are older, or as old with a lower
/// number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Their time.
    pub at: DateTime<Utc>,
    /// Their number; it need not exist.
    pub id: i64,
}

/// Lists what was recorded, the newest first.
///
/// # Errors
/// When the database refuses or is away.
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
