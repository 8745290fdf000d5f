//! Reads products, their stock and its ledger.

use engine::{ListCost, ListError, Page, PageOf, page_rows, read_page};
use sqlx::{PgConnection, PgPool, Postgres, QueryBuilder};
use uuid::Uuid;

use super::{
    movement::LedgerEntry,
    product::{CatalogEntry, Product, ProductFilter, StockState},
};
use crate::support::bounded_list;

/// Reads one product.
///
/// # Errors
/// When the database refuses or can't be reached.
pub async fn product(pool: &PgPool, product_id: Uuid) -> Result<Option<Product>, sqlx::Error> {
    read(&mut *pool.acquire().await?, product_id).await
}

/// Selects the ids and SKUs of the next products after an id, in the order of the ids.
pub(super) async fn skus_after(
    pool: &PgPool,
    after: Uuid,
    limit: i64,
) -> Result<Vec<(Uuid, String)>, sqlx::Error> {
    sqlx::query_as(
        "select product_id, sku from shop.product where product_id > $1 order by product_id limit $2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(pool)
    .await
}

/// Lists products, newest first.
///
/// A search scans the whole catalog until the page is full: an index for it needs the extension `pg_trgm`, which is not
/// available everywhere, and a catalog is small. The list of low stock scans, too: every order would write an index on the
/// levels.
///
/// # Errors
/// See [`ListError`]; a list that does not [scan](ProductFilter::may_scan) never times out.
pub async fn products(
    pool: &PgPool,
    filter: &ProductFilter,
    page: Page,
) -> Result<PageOf<Product>, ListError> {
    let texts = [&filter.search, &filter.category];
    if texts.into_iter().flatten().any(|text| text.contains('\0')) {
        // PostgreSQL stores no NUL character, so nothing can match, and the query would be an error.
        return Ok(PageOf::empty());
    }
    let mut query = QueryBuilder::<Postgres>::new(SELECT);
    query.push(" where true");
    if let Some(search) = &filter.search {
        let pattern = format!("%{}%", search.replace('\\', r"\\").replace('%', r"\%").replace('_', r"\_"));
        query.push(" and (p.name ilike ").push_bind(pattern.clone());
        query.push(" or p.sku ilike ").push_bind(pattern).push(")");
    }
    if let Some(category) = &filter.category {
        query.push(" and p.category = ").push_bind(category);
    }
    match filter.stock {
        Some(StockState::Low) => {
            query.push(" and s.on_hand - s.reserved <= s.low_stock_threshold");
        }
        None => {}
    }
    if let Some(after) = page.after {
        query.push(" and p.product_id < ").push_bind(after);
    }
    query.push(" order by p.product_id desc limit ").push_bind(page_rows(page.limit));
    bounded_list::read(pool, ListCost::may_scan_if(filter.may_scan()), query, page.limit).await
}

/// Reads the names and prices of these SKUs; unknown SKUs are left out.
pub(crate) async fn catalog_entries(
    conn: &mut PgConnection,
    skus: &[&str],
) -> Result<Vec<CatalogEntry>, sqlx::Error> {
    sqlx::query_as(
        "select sku, name, price, currency from shop.product where sku = any((select $1::text[])::text[])",
    )
    .bind(skus)
    .fetch_all(conn)
    .await
}

pub(crate) async fn sku_of(conn: &mut PgConnection, product_id: Uuid) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar("select sku from shop.product where product_id = $1")
        .bind(product_id)
        .fetch_optional(conn)
        .await
}

pub(crate) async fn read(conn: &mut PgConnection, product_id: Uuid) -> Result<Option<Product>, sqlx::Error> {
    let mut query = QueryBuilder::<Postgres>::new(SELECT);
    query.push(" where p.product_id = ").push_bind(product_id);
    query.build_query_as().fetch_optional(conn).await
}

/// Whether there is at least one product.
pub(crate) async fn any_product(pool: &PgPool) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select exists (select 1 from shop.product)").fetch_one(pool).await
}

/// Reads up to `limit` entries of a product's ledger that are older than `before`, newest first; `None` if the product
/// does not exist.
///
/// # Errors
/// When the database refuses or can't be reached.
pub async fn ledger(
    pool: &PgPool,
    product_id: Uuid,
    before: Option<i64>,
    limit: u32,
) -> Result<Option<PageOf<LedgerEntry>>, sqlx::Error> {
    let mut conn = pool.acquire().await?;
    let Some(sku) = sku_of(&mut conn, product_id).await? else { return Ok(None) };
    let mut query = QueryBuilder::<Postgres>::new(
        "select movement_id, kind, delta_on_hand, delta_reserved, order_id, actor, reason, at
         from shop.stock_movement where sku = ",
    );
    query.push_bind(sku);
    if let Some(before) = before {
        query.push(" and movement_id < ").push_bind(before);
    }
    query.push(" order by movement_id desc limit ").push_bind(page_rows(limit));
    read_page(query.build().fetch(&mut *conn), limit).await.map(Some)
}

const SELECT: &str = "select p.product_id, p.sku, p.name, p.description, p.category, p.price, p.currency,
            s.on_hand, s.reserved, s.on_hand - s.reserved as available, s.low_stock_threshold,
            s.version, p.created_at, greatest(p.updated_at, s.updated_at) as updated_at
     from shop.product p
     cross join lateral (select * from shop.stock where sku = p.sku order by version desc limit 1) s";
