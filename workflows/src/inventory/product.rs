//! Products with their stock: read and listed.

use chrono::{DateTime, Utc};
use engine::Page;
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgPool, Postgres, QueryBuilder};
use sqlx_macros::FromRow;
use uuid::Uuid;

use crate::bounded_list::{self, ListError};

/// A product and its stock.
#[derive(Clone, Debug, Serialize, FromRow)]
pub struct Product {
    /// Its id.
    pub product_id: Uuid,
    /// The shop's own name for it.
    pub sku: String,
    /// The name customers see.
    pub name: String,
    /// What it is.
    pub description: String,
    /// What it is listed under.
    pub category: String,
    /// What one costs, in minor units of the currency.
    pub price: i64,
    /// ISO 4217.
    pub currency: String,
    /// How many there are.
    #[sqlx(flatten)]
    pub stock: StockLevels,
    /// Grows with every change, of the stock too.
    pub version: i64,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it, or its stock, changed last.
    pub updated_at: DateTime<Utc>,
}

/// How many there are of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, FromRow)]
pub struct StockLevels {
    /// In the warehouse.
    pub on_hand: i64,
    /// Of these, held by orders.
    pub reserved: i64,
    /// Of these, free to be ordered.
    pub available: i64,
    /// At or under this many available, stock is low.
    pub low_stock_threshold: i64,
}

/// Which products to list; every field narrows.
#[derive(Clone, Debug, Default)]
pub struct ProductFilter {
    /// Whose name or SKU contains this, whatever the case.
    pub search: Option<String>,
    /// In this category.
    pub category: Option<String>,
    /// In this state of stock.
    pub stock: Option<StockState>,
}

impl ProductFilter {
    /// Whether the whole catalogue may have to be looked at before a page is full.
    pub fn may_scan(&self) -> bool {
        self.search.is_some() || self.stock.is_some()
    }
}

/// How a product's stock is, by its threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StockState {
    /// No more are available than its threshold says.
    Low,
}

/// Reads one product.
///
/// # Errors
/// When the database refuses or is away.
pub async fn product(pool: &PgPool, product_id: Uuid) -> Result<Option<Product>, sqlx::Error> {
    read(&mut *pool.acquire().await?, product_id).await
}

/// Lists products, newest first.
///
/// A search reads the whole catalogue until the page is full: an index for it needs an extension (`pg_trgm`) that is
/// not everywhere, and a catalogue is small. So does the list of what is low: an index on the levels would cost every
/// order, because no update of a row of stock could stay on its page.
///
/// # Errors
/// See [`ListError`]; a list that does not [scan](ProductFilter::may_scan) is never too long.
pub async fn products(pool: &PgPool, filter: &ProductFilter, page: Page) -> Result<Vec<Product>, ListError> {
    let texts = [&filter.search, &filter.category];
    if texts.into_iter().flatten().any(|text| text.contains('\0')) {
        // PostgreSQL keeps no NUL, so nothing can match; asking it would be an error.
        return Ok(Vec::new());
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
    query.push(" order by p.product_id desc limit ").push_bind(i64::from(page.limit));
    if filter.may_scan() {
        return bounded_list::read(pool, query).await;
    }
    Ok(query.build_query_as().fetch_all(pool).await?)
}

/// What a product is called and costs now.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub(crate) struct CatalogEntry {
    pub(crate) sku: String,
    pub(crate) name: String,
    pub(crate) price: i64,
    pub(crate) currency: String,
}

/// Reads what these SKUs are called and cost; those that do not exist are left out.
pub(crate) async fn catalog_entries(
    conn: &mut PgConnection,
    skus: &[&str],
) -> Result<Vec<CatalogEntry>, sqlx::Error> {
    sqlx::query_as("select sku, name, price, currency from shop.product where sku = any($1)")
        .bind(skus)
        .fetch_all(conn)
        .await
}

pub(super) async fn sku_of(conn: &mut PgConnection, product_id: Uuid) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar("select sku from shop.product where product_id = $1")
        .bind(product_id)
        .fetch_optional(conn)
        .await
}

pub(super) async fn read(conn: &mut PgConnection, product_id: Uuid) -> Result<Option<Product>, sqlx::Error> {
    let mut query = QueryBuilder::<Postgres>::new(SELECT);
    query.push(" where p.product_id = ").push_bind(product_id);
    query.build_query_as().fetch_optional(conn).await
}

const SELECT: &str = "select p.product_id, p.sku, p.name, p.description, p.category, p.price, p.currency,
            s.on_hand, s.reserved, s.on_hand - s.reserved as available, s.low_stock_threshold,
            s.version, p.created_at, greatest(p.updated_at, s.updated_at) as updated_at
     from shop.product p join shop.stock s on s.sku = p.sku";
