//! Products with their stock: created, read, listed.

use chrono::{DateTime, Utc};
use engine::Page;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::{FromRow, PgConnection, PgPool, Postgres, QueryBuilder};
use uuid::Uuid;

use super::{
    levels::Level,
    movement::{self, Kind, Movement},
    stock,
};
use crate::{
    audit::{self, By, Change},
    outbox,
    violation::{Checker, Violation},
};

/// The most that can be on hand: sums over a million such ledgers still fit.
pub(super) const MAX_STOCK: i64 = 1_000_000_000_000;

/// A product to be created.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewProduct {
    /// The shop's own name for it, unique; 1 to 64 characters.
    pub sku: String,
    /// The name customers see; 1 to 200 characters.
    pub name: String,
    /// Up to 4000 characters.
    #[serde(default)]
    pub description: String,
    /// 1 to 64 characters.
    pub category: String,
    /// What one costs, in minor units of the currency.
    pub price: i64,
    /// ISO 4217.
    pub currency: String,
    /// How many there are.
    #[serde(default)]
    pub initial_stock: i64,
    /// At or under this many available, stock is low.
    #[serde(default)]
    pub low_stock_threshold: i64,
}

impl NewProduct {
    /// Lists all that is wrong with it.
    pub fn violations(&self) -> Vec<Violation> {
        let mut checker = Checker::default();
        checker.line("/sku", &self.sku, 1, 64);
        checker.line("/name", &self.name, 1, 200);
        checker.prose("/description", &self.description, 0, 4000);
        checker.line("/category", &self.category, 1, 64);
        checker.range("/price", self.price, 0, i64::MAX);
        checker.currency("/currency", &self.currency);
        checker.range("/initial_stock", self.initial_stock, 0, MAX_STOCK);
        checker.range("/low_stock_threshold", self.low_stock_threshold, 0, MAX_STOCK);
        checker.done()
    }
}

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
}

/// A product was not created.
#[derive(Debug, thiserror::Error)]
pub enum CreateProductError {
    /// Another product has the SKU.
    #[error("the SKU is taken")]
    SkuTaken,
    /// The request is wrong.
    #[error("the request is wrong")]
    Invalid(Vec<Violation>),
    /// The database refused or is away.
    #[error("the database refused")]
    Database(#[from] sqlx::Error),
}

/// Creates a product with its first stock, which is the first movement of its ledger.
///
/// # Errors
/// See [`CreateProductError`].
pub async fn create_product(
    pool: &PgPool,
    new: NewProduct,
    by: impl Into<By<'_>>,
) -> Result<Product, CreateProductError> {
    create_product_as(pool, Uuid::now_v7(), new, by).await
}

/// As [`create_product`], under an id of the caller's: repeated after an answer that was lost, it finds the product that
/// the first try made.
///
/// # Errors
/// As [`create_product`].
pub async fn create_product_as(
    pool: &PgPool,
    product_id: Uuid,
    new: NewProduct,
    by: impl Into<By<'_>>,
) -> Result<Product, CreateProductError> {
    let by = by.into();
    let violations = new.violations();
    if !violations.is_empty() {
        return Err(CreateProductError::Invalid(violations));
    }
    let mut tx = pool.begin().await?;
    if !insert(&mut tx, product_id, &new).await? {
        let made_before = read(&mut tx, product_id).await?.filter(|product| product.sku == new.sku);
        return made_before.ok_or(CreateProductError::SkuTaken);
    }
    let level =
        Level { on_hand: new.initial_stock, reserved: 0, low_stock_threshold: new.low_stock_threshold };
    insert_stock(&mut tx, &new.sku, level).await?;
    let movement =
        Movement { sku: &new.sku, delta_on_hand: new.initial_stock, delta_reserved: 0, order_id: None };
    movement::enter(&mut tx, Kind::Initial, by.actor, None, &[movement]).await?;
    let events = [stock::updated(&new.sku, level, Kind::Initial.name(), None)];
    outbox::append(&mut tx, &events).await?;
    let product = read(&mut tx, product_id).await?.ok_or(sqlx::Error::RowNotFound)?;
    let subject = product_id.to_string();
    let shown = json!({
        "sku": new.sku, "name": new.name, "description": new.description, "category": new.category,
        "price": new.price, "currency": new.currency, "on_hand": new.initial_stock,
        "low_stock_threshold": new.low_stock_threshold,
    });
    let made = Change::of("product.create", "product", &subject).after(shown);
    audit::record(&mut tx, &by, &[made]).await?;
    tx.commit().await?;
    Ok(product)
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
/// not everywhere, and a catalogue is small.
///
/// # Errors
/// When the database refuses or is away.
pub async fn products(
    pool: &PgPool,
    filter: &ProductFilter,
    page: Page,
) -> Result<Vec<Product>, sqlx::Error> {
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
    if let Some(after) = page.after {
        query.push(" and p.product_id < ").push_bind(after);
    }
    query.push(" order by p.product_id desc limit ").push_bind(i64::from(page.limit));
    query.build_query_as().fetch_all(pool).await
}

/// What a product is called and costs now.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub(crate) struct Listing {
    pub(crate) sku: String,
    pub(crate) name: String,
    pub(crate) price: i64,
    pub(crate) currency: String,
}

/// Reads what these SKUs are called and cost; those that do not exist are left out.
pub(crate) async fn listings(conn: &mut PgConnection, skus: &[&str]) -> Result<Vec<Listing>, sqlx::Error> {
    sqlx::query_as("select sku, name, price, currency from shop.product where sku = any($1)")
        .bind(skus)
        .fetch_all(conn)
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

/// Says whether the SKU was free.
async fn insert(conn: &mut PgConnection, product_id: Uuid, new: &NewProduct) -> Result<bool, sqlx::Error> {
    let result = sqlx::query(
        "insert into shop.product (product_id, sku, name, description, category, price, currency)
         values ($1, $2, $3, $4, $5, $6, $7) on conflict (sku) do nothing",
    )
    .bind(product_id)
    .bind(&new.sku)
    .bind(&new.name)
    .bind(&new.description)
    .bind(&new.category)
    .bind(new.price)
    .bind(&new.currency)
    .execute(conn)
    .await?;
    Ok(result.rows_affected() == 1)
}

async fn insert_stock(conn: &mut PgConnection, sku: &str, level: Level) -> Result<(), sqlx::Error> {
    sqlx::query("insert into shop.stock (sku, on_hand, low_stock_threshold) values ($1, $2, $3)")
        .bind(sku)
        .bind(level.on_hand)
        .bind(level.low_stock_threshold)
        .execute(conn)
        .await?;
    Ok(())
}
