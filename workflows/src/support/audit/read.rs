//! Lists the audit log.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use engine::{ListCost, ListError, PageOf, page_rows};
use serde_json::Value;
use sqlx::{PgPool, Postgres, QueryBuilder, types::Json};
use sqlx_macros::FromRow;

use crate::support::bounded_list;

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

/// What the audit has by far the most of; the indexes by action and by kind of subject leave it out.
const PLACEMENT: &str = "order.place";

impl Filter {
    /// Whether the list may have to look at many records before a page is full. Indexes lead to those of a subject, of a
    /// time, and of each action and kind but the placement of orders.
    pub fn may_scan(&self) -> bool {
        let is_by_time = self.from.is_some() || self.to.is_some();
        let conditions =
            [self.action.is_some(), self.subject_kind.is_some(), self.subject_id.is_some(), is_by_time];
        self.actor.is_some()
            || conditions.into_iter().filter(|&is_set| is_set).count() > 1
            || self.has_placements()
    }

    /// Whether placements of orders are among what is asked for by action or kind.
    fn has_placements(&self) -> bool {
        self.action.as_deref() == Some(PLACEMENT)
            || self.action.is_none() && self.subject_kind.as_deref() == Some("order")
    }
}

/// Lists the audit log, newest first.
///
/// # Errors
/// See [`ListError`].
pub async fn list(
    pool: &PgPool,
    filter: &Filter,
    after: Option<Position>,
    limit: u32,
) -> Result<PageOf<Record>, ListError> {
    let mut query = QueryBuilder::<Postgres>::new(
        "select id, at, actor, key_id, host(address) as address, action, subject_kind, subject_id, reason,
                before, after, trace_id
         from shop.audit where true",
    );
    if (filter.action.is_some() || filter.subject_kind.is_some()) && !filter.has_placements() {
        query.push(" and action <> '").push(PLACEMENT).push("'");
    }
    if let Some(actor) = &filter.actor {
        query
            .push(" and (actor = ")
            .push_bind(actor.clone())
            .push(" or starts_with(actor, ")
            .push_bind(actor.clone())
            .push(" || '/'))");
    }
    if let Some(action) = &filter.action {
        query.push(" and action = ").push_bind(action.clone());
    }
    if let Some(kind) = &filter.subject_kind {
        query.push(" and subject_kind = ").push_bind(kind.clone());
    }
    if let Some(id) = &filter.subject_id {
        query.push(" and subject_id = ").push_bind(id.clone());
    }
    if let Some(from) = filter.from {
        query.push(" and at >= ").push_bind(from);
    }
    if let Some(to) = filter.to {
        query.push(" and at < ").push_bind(to);
    }
    if let Some(Position { at, id }) = after {
        query.push(" and (at, id) < (").push_bind(at).push(", ").push_bind(id).push(")");
    }
    query.push(" order by at desc, id desc limit ").push_bind(page_rows(limit));
    let cost = ListCost::may_scan_if(filter.may_scan());
    let rows: PageOf<Row> = bounded_list::read(pool, cost, query, limit).await?;
    Ok(rows.try_map(Row::record)?)
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
