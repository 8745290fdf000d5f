//! The statements of the invariants: the queries of `invariants.sql`, and the ranges that they are run over.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use sqlx_macros::FromRow;
use uuid::Uuid;

use super::{
    file::{Over, Query, SECTIONS},
    result::{Findings, InvariantResult},
};

/// Sorts behind every SKU.
const LAST_SKU: &str = "\u{10ffff}";

/// Rows with these ids, or that were created in the time which these ids, UUIDs of version 7, tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IdRange {
    pub(super) from: Uuid,
    pub(super) to: Uuid,
}

impl IdRange {
    pub(super) const ALL: Self = Self { from: Uuid::nil(), to: Uuid::max() };
}

/// Products with SKUs after `after`, up to and including `through`.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub(super) struct SkuRange {
    pub(super) after: String,
    pub(super) through: String,
}

impl SkuRange {
    pub(super) fn all() -> Self {
        Self { after: String::new(), through: LAST_SKU.into() }
    }
}

/// Runs all queries on one snapshot of the database, and returns the results by number.
///
/// # Errors
/// When the database refuses or can't be reached, or is not migrated.
pub async fn check(pool: &PgPool) -> Result<Vec<InvariantResult>, sqlx::Error> {
    let mut tx = pool.begin().await?;
    sqlx::query("set transaction isolation level repeatable read, read only").execute(&mut *tx).await?;
    check_in(&mut tx).await
}

/// As [`check`], in the caller's transaction.
///
/// # Errors
/// As [`check`].
pub async fn check_in(conn: &mut PgConnection) -> Result<Vec<InvariantResult>, sqlx::Error> {
    let mut results = Vec::new();
    for section in SECTIONS.iter() {
        let mut findings = Findings::of(section);
        for query in &section.queries {
            findings.add(match query.over {
                Over::Unfinished | Over::All => plain(&mut *conn, query).await?,
                Over::Ids => over_ids(&mut *conn, query, IdRange::ALL).await?,
                Over::Times => over_times(&mut *conn, query, IdRange::ALL).await?,
                Over::Skus => over_skus(&mut *conn, query, &SkuRange::all()).await?,
            });
        }
        results.push(findings.into_result());
    }
    Ok(results)
}

// The queries are planned anew each time: a plan for a small range does not fit a large one.

pub(super) async fn plain(conn: &mut PgConnection, query: &Query) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(query.sql).persistent(false).fetch_all(conn).await
}

pub(super) async fn over_ids(
    conn: &mut PgConnection,
    query: &Query,
    range: IdRange,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(query.sql).bind(range.from).bind(range.to).persistent(false).fetch_all(conn).await
}

pub(super) async fn over_times(
    conn: &mut PgConnection,
    query: &Query,
    range: IdRange,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(query.sql)
        .bind(time_of(range.from))
        .bind(time_of(range.to))
        .persistent(false)
        .fetch_all(conn)
        .await
}

pub(super) async fn over_skus(
    conn: &mut PgConnection,
    query: &Query,
    range: &SkuRange,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(query.sql)
        .bind(&range.after)
        .bind(&range.through)
        .persistent(false)
        .fetch_all(conn)
        .await
}

/// The time in a UUID of version 7: its first 48 bits are milliseconds since 1970.
pub(super) fn time_of(id: Uuid) -> DateTime<Utc> {
    let ms = i64::try_from(id.as_u128() >> 80).unwrap_or_default();
    DateTime::from_timestamp_millis(ms).unwrap_or(DateTime::UNIX_EPOCH)
}

/// The id of the order that has this many newer ones.
pub(super) async fn newest_order(conn: &mut PgConnection, newer: i64) -> Result<Option<Uuid>, sqlx::Error> {
    sqlx::query_scalar("select order_id from shop.orders order by order_id desc offset $1 limit 1")
        .bind(newer)
        .fetch_optional(conn)
        .await
}

/// The id of the order that comes after the first `offset` ones with ids from `from` on.
pub(super) async fn order_from(
    conn: &mut PgConnection,
    from: Uuid,
    offset: i64,
) -> Result<Option<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "select order_id from shop.orders where order_id >= $1 order by order_id offset $2 limit 1",
    )
    .bind(from)
    .bind(offset)
    .fetch_optional(conn)
    .await
}

/// About how many sagas there are, by the statistics of the last analysis.
pub(super) async fn estimated_sagas(conn: &mut PgConnection) -> Result<u64, sqlx::Error> {
    let count: i64 = sqlx::query_scalar(
        "select greatest(reltuples, 0)::bigint from pg_class where oid = 'engine.saga'::regclass",
    )
    .fetch_one(conn)
    .await?;
    Ok(u64::try_from(count).unwrap_or_default())
}

pub(super) async fn product_count(conn: &mut PgConnection) -> Result<u64, sqlx::Error> {
    let count: i64 = sqlx::query_scalar("select count(*) from shop.stock").fetch_one(conn).await?;
    Ok(u64::try_from(count).unwrap_or_default())
}

/// Up to `count` products at random whose ledgers have at most `max_entries` entries, each a range of its own.
pub(super) async fn random_skus(
    conn: &mut PgConnection,
    count: i64,
    max_entries: i64,
) -> Result<Vec<SkuRange>, sqlx::Error> {
    sqlx::query_as(
        "select coalesce((select max(b.sku) from shop.stock b where b.sku < s.sku), '') as after, s.sku as through
         from (select sku from shop.stock order by random() limit $1) s
         where (select count(*) from (select from shop.stock_movement m where m.sku = s.sku limit $2 + 1) m) <= $2",
    )
    .bind(count)
    .bind(max_entries)
    .fetch_all(conn)
    .await
}

/// The highest SKU of the next `count` products after a SKU, if there are more than that.
pub(super) async fn sku_after(
    conn: &mut PgConnection,
    after: &str,
    count: i64,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar("select sku from shop.stock where sku > $1 order by sku offset $2 limit 1")
        .bind(after)
        .bind(count)
        .fetch_optional(conn)
        .await
}
